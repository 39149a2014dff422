"""How chapters 05 to 07 measure models.

Feature sets and the Frechet distance, densities fitted to codes, rate and distortion.
The chapters teach some of them cell by cell; `tools/experiments.py` applies most to
every model that it trains.
"""

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np
from keras import layers
from scipy.stats import norm
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits  # comes with scikit-learn

import course

CLASSIFIER = course.REFERENCE / "classifier.keras"
EPOCHS = 50
STEPS = EPOCHS * 430  # 55,000 images in batches of 128
IMAGES = 10_000  # in every comparison: the Frechet distance depends on the number
# Where codes to decode come from: {name: components of a mixture fitted to codes}.
SOURCES = {"N(0, I)": 0, "mixture of 50": 50}


class Noiseless(vh.VAE):
    """A VAE that decodes the mean: no noise is added to z.

    Of the KL term, only the penalty on the means affects what is decoded: nothing in
    the reconstruction depends on the variance.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sampling.call = lambda inputs: inputs[0]  # z_mean


def build_vae(
    kind=vh.VAE, kl_weight=1.0, warm_up_epochs=0, cosine=False, activation="relu"
):  # fmt: skip
    """Chapter 03's VAE with changes: the compiled model and a list of its callbacks.

    Args:
        kind: the class, `vh.VAE` or a subclass.
        warm_up_epochs: KL warm-up: its weight rises linearly, from 0 in the first epoch
            to 1 after so many; 0 for none.
        cosine: whether the learning rate falls from 0.001 to 0 along half a cosine,
            over all epochs; otherwise it stays at 0.001.
    """
    encoder = vh.build_encoder(activation=activation)
    decoder = vh.build_decoder(activation=activation)
    vae = kind(encoder, decoder, kl_weight)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, STEPS) if cosine else 1e-3
    vae.compile(optimizer=keras.optimizers.Adam(rate), loss="mse", metrics=["mse"])

    def set_kl_weight(epoch, logs=None):
        vae.kl_weight.assign(min(1.0, epoch / warm_up_epochs))

    warm_up = keras.callbacks.LambdaCallback(on_epoch_begin=set_kl_weight)
    return vae, [warm_up] if warm_up_epochs else []


def load_vae(name):
    """A VAE from course/assets/models: "vae", "vae2d", "wide" or "better".

    The last three are the first seed's of tools/experiments.py.
    """
    files = (f"{name}_encoder.keras", f"{name}_decoder.keras")
    return vh.VAE(*(vh.load(course.REFERENCE / f) for f in files), seed=vh.SEED)


def binarised(images, seed=0):
    """Images (n, 784) with pixels drawn: 1 with their own value as probability."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(size=images.shape) < images).astype("float32")


def build_classifier():
    """Classifier 784 - 512 - 64 ("features") - 10 classes (softmax), not compiled.

    Dropout between the two hidden layers limits overfitting.
    """
    image = keras.Input((784,), name="image")
    x = layers.Dense(512, activation="relu")(image)
    x = layers.Dropout(0.3)(x)
    features = layers.Dense(64, activation="relu", name="features")(x)
    classes = layers.Dense(10, activation="softmax", name="classes")(features)
    return keras.Model(image, classes, name="classifier")


def classify(classifier, x):
    """Features (n, 64) and class probabilities (n, 10) of images x (n, 784).

    Raises:
        ValueError: as `vh.check_images`.
    """
    features = classifier.get_layer("features").output
    both = keras.Model(classifier.input, [features, classifier.output])
    return [np.asarray(part) for part in both(vh.check_images(x))]


def build_random_dense():
    """A network 784 - 512 - 64 with random weights that are never trained."""
    start = keras.initializers.HeNormal
    image = keras.Input((784,), name="image")
    x = layers.Dense(512, "relu", kernel_initializer=start(0))(image)
    features = layers.Dense(64, "relu", kernel_initializer=start(1))(x)
    return keras.Model(image, features, name="random_dense")


def build_random_convolution():
    """Two convolutions with random weights, never trained: 64 features of an image.

    The outputs of the 64 filters are averaged over the 7 x 7 places where they look.
    """
    start = keras.initializers.HeNormal
    settings = {"strides": 2, "padding": "same", "activation": "relu"}
    image = keras.Input((784,), name="image")
    x = layers.Reshape((28, 28, 1))(image)
    x = layers.Conv2D(32, 3, kernel_initializer=start(0), **settings)(x)
    x = layers.Conv2D(64, 3, kernel_initializer=start(1), **settings)(x)
    features = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, features, name="random_convolution")


def feature_sets(classifier, x_train):
    """Four ways to describe an image by 64 numbers.

    A dictionary {name: function of images (n, 784) that returns features (n, 64)}. The
    principal components are those of the images `x_train` (m, 784).
    """
    dense, convolution = build_random_dense(), build_random_convolution()
    pca = PCA(64, svd_solver="covariance_eigh").fit(x_train.astype("float64"))
    return {
        "our classifier": lambda x: classify(classifier, x)[0],
        "random dense network": lambda x: np.asarray(dense(x)),
        "random convolutions": lambda x: np.concatenate(
            [convolution(part) for part in np.array_split(x, len(x) // 1_000 + 1)]
        ),
        "principal components": pca.transform,
    }


def squared_frechet(a, b):
    """Squared Frechet distance between two sets of features, a (n, d) and b (m, d).

    |mean_a - mean_b|^2 + trace(C_a + C_b - 2 (C_a C_b)^(1/2)), with covariances C: the
    squared distance between Gaussians with these moments (Dowson and Landau 1982).
    Computed from an Inception network's features, it is the FID (Heusel et al. 2017);
    ours, from our own classifier's features, cannot be compared with the FID.
    """
    cov_a, cov_b = (np.atleast_2d(np.cov(part, rowvar=False)) for part in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T  # the square root of cov_a
    # (C_a C_b)^(1/2) has the same trace as (root C_b root)^(1/2), which is symmetric.
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    means = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(means + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def fit_mixture(codes, components, seed=0):
    """A mixture of `components` Gaussians fitted to codes (m, d), scikit-learn's.

    Its method `score_samples` gives the logarithm of its density.
    """
    with threadpool_limits(1):  # two threads take twice as long for small products
        mixture = GaussianMixture(components, random_state=seed)
        return mixture.fit(codes.astype("float64"))


def sample_codes(codes, components, n=IMAGES, seed=0):
    """`n` new codes to decode, (n, d) float32.

    With 0 `components` from N(0, I), otherwise from a mixture of that many Gaussians,
    fitted to the first 20,000 of the training codes (m, d). Where none of these is
    negative (ReLU), negative numbers of the mixture are set to 0.
    """
    rng = np.random.default_rng(seed)
    if not components:
        return rng.normal(size=(n, codes.shape[1])).astype("float32")
    drawn = fit_mixture(codes[:20_000], components, seed).sample(n)[0]
    drawn = rng.permutation(drawn).astype("float32")
    return drawn.clip(0) if codes.min() >= 0 else drawn


def score_by_features(model, data, sets):
    """Squared Frechet distances by each feature set: {source: {set: [one a draw]}}.

    New images from N(0, I) and from a mixture of 50 fitted to the codes, three draws
    each; of the latter's first draw also with more contrast and with speckle; and the
    test images' reconstructions.
    """
    codes, log_var = map(np.asarray, model.encoder(data.x_train))
    if not isinstance(model, Noiseless):
        noise = np.random.default_rng(0).normal(size=codes.shape).astype("float32")
        codes = codes + np.exp(0.5 * log_var) * noise
    test_mean, _ = model.encoder(data.x_test)
    images = {"test images, restored": [np.asarray(model.decoder(test_mean))]}
    for source, components in SOURCES.items():
        images[source] = [
            np.asarray(model.decoder(sample_codes(codes, components, seed=seed)))
            for seed in range(3)
        ]
    mixed = images["mixture of 50"][0]
    images["more contrast"] = [(0.5 + 1.25 * (mixed - 0.5)).clip(0, 1)]
    images["speckle"] = [binarised(mixed)]
    scores = {source: {} for source in images}
    for name, of in sets.items():
        real = of(data.x_test)
        for source, parts in images.items():
            distances = [squared_frechet(of(x), real) for x in parts]
            scores[source][name] = [float(f"{value:.6g}") for value in distances]
    return scores


def rate_and_distortion(decoder, x, mean, log_var, log_prior=None, draws=10):
    """Rate and distortion of images x (n, 784) in nats, each (n,).

    z is drawn from N(mean, exp(log_var)), both (n, d), `draws` times. The rate is the
    average of log q(z | x) - log_prior(z), an estimate of KL(q || prior); the
    distortion is the average of -log p(x | z). Their sum is -ELBO (Alemi et al. 2018).
    Without `log_prior`, the prior is N(0, I).
    """
    log_prior = log_prior or (lambda z: norm.logpdf(z).sum(axis=1))
    rng, sigma = np.random.default_rng(0), np.exp(0.5 * log_var)
    rate, distortion = np.zeros(len(x)), np.zeros(len(x))
    for _ in range(draws):
        z = (mean + sigma * rng.normal(size=mean.shape)).astype("float32")
        log_q = norm.logpdf(z, mean, sigma).sum(axis=1)
        rate += (log_q - log_prior(z)) / draws
        distortion += np.asarray(vh.bernoulli_nll(x, decoder(z))) / draws
    return rate, distortion
