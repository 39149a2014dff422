"""How chapter 05 measures models: the classifier, the Frechet distance on its features,
densities fitted to codes, and the importance-weighted bound.

The chapter teaches what is below, cell by cell; `tools/experiments.py` applies it to
every model that it trains.
"""

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np
from keras import layers
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits  # comes with scikit-learn

import course
from course import checkpoints, training

CLASSIFIER = course.REFERENCE / "classifier.keras"
SEED = 1  # the first of those in experiments.json, so that a live run can be compared with a committed one
EPOCHS = 50
STEPS = EPOCHS * 430  # 55,000 images in batches of 128
IMAGES = (
    10_000  # in every comparison: the Frechet distance depends on how many there are
)


class Noiseless(vh.VAE):
    """A VAE that decodes the mean itself. Of KL there remains a penalty on the means; nothing asks for a variance."""

    def call(self, inputs):
        z_mean, z_log_var = self.encoder(inputs)
        self._kl = keras.ops.sum(
            vh.kl_to_prior(z_mean, keras.ops.minimum(z_log_var, 20.0)), axis=-1
        )
        return self.decoder(z_mean)


def warm_up(vae, epochs):
    """A callback that raises the weight of KL evenly from 0 in the first epoch to 1 after `epochs` epochs."""

    def begin(epoch, logs=None):
        vae.kl_weight.assign(min(1.0, epoch / epochs))

    return keras.callbacks.LambdaCallback(on_epoch_begin=begin)


def build_vae(
    kind=vh.VAE,
    kl_weight=1.0,
    warm_up_epochs=0,
    cosine=False,
    activation="relu",
    steps=STEPS,
):
    """Chapter 03's model with changes, compiled, and its callbacks.

    `cosine` lets the learning rate fall from 0.001 to 0 along half a cosine, over `steps` steps.
    """
    vae = kind(
        vh.build_encoder(activation=activation),
        vh.build_decoder(activation=activation),
        kl_weight,
    )
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps) if cosine else 1e-3
    vae.compile(optimizer=keras.optimizers.Adam(rate), loss="mse", metrics=["mse"])
    return vae, [warm_up(vae, warm_up_epochs)] if warm_up_epochs else []


def trained_vae(data, **changes):
    """`build_vae(**changes)`, trained on `data` with the first seed of experiments.json.

    Kept in build/models after a complete run, if the code of the changes is the course's own. A second call with the
    same changes takes the kept weights, and says so, unless data, modules or versions have changed.
    """
    epochs = vh.limit_epochs(EPOCHS)
    keras.utils.set_random_seed(SEED)
    vae, callbacks = build_vae(**changes, steps=epochs * -(-len(data.x_train) // 128))
    name = " ".join(
        [
            "vae",
            *(
                f"{key}={getattr(value, '__name__', value)}"
                for key, value in changes.items()
            ),
        ]
    )
    code = checkpoints.code_fingerprint(
        vh.__file__, training.__file__, __file__, data=data.x_train
    )
    path = course.BUILD / "models" / f"{name} {code}.npz"
    # Of a reader's own class or function only the name is in the file's name: it may be another one by now.
    ours = changes.get("kind", vh.VAE) in (vh.VAE, Noiseless) and not callable(
        changes.get("activation")
    )
    kept = data.is_full_run and ours
    if kept and path.is_file():
        checkpoints.read(path, vae)
        print(f"{name}: trained before; delete it from build/models to train it anew")
        return vae
    vh.fit(
        vae,
        data.x_train,
        data.x_train,
        epochs=epochs,
        validation_data=(data.x_val, data.x_val),
        callbacks=callbacks,
    )
    if kept and len(vae.history.epoch) == epochs:
        try:
            for former in path.parent.glob(f"{name} {'?' * 16}.npz"):
                former.unlink()
            checkpoints.write(path, vae)
        except OSError as error:
            print(error)  # the model is here all the same
    return vae


def build_classifier():
    """Classifier 784 - 512 - 64 ("features") - 10 classes (softmax), with dropout against learning by heart."""
    image = keras.Input((784,), name="image")
    x = layers.Dense(512, activation="relu")(image)
    features = layers.Dense(64, activation="relu", name="features")(
        layers.Dropout(0.3)(x)
    )
    classes = layers.Dense(10, activation="softmax", name="classes")(features)
    return keras.Model(image, classes, name="classifier")


def classify(classifier, x):
    """What the classifier makes of images (n, 784): its features (n, 64) and its class probabilities (n, 10)."""
    x = vh.check_images(x)
    both = keras.Model(
        classifier.input, [classifier.get_layer("features").output, classifier.output]
    )
    return predict_in_batches(both, x)


def predict_in_batches(model, x, size=5_000):
    """The outputs of a model for inputs (n, ...), `size` at a time, as arrays; a list of them if it has several."""
    if (
        np.shape(x)[1:] != model.input_shape[1:]
        or not len(x)
        or not np.isfinite(x).all()
    ):
        raise ValueError(
            f"x must be finite numbers {model.input_shape}, which {model.name} takes, not {np.shape(x)}."
        )
    parts = [model(x[i : i + size]) for i in range(0, len(x), size)]
    if isinstance(parts[0], (list, tuple)):
        return [
            np.concatenate([np.asarray(part[k]) for part in parts])
            for k in range(len(parts[0]))
        ]
    return np.concatenate([np.asarray(part) for part in parts])


def squared_frechet(a, b):
    """Squared Frechet distance of two sets of features (n, d) and (m, d), each taken for a normal distribution.

    |mean_a - mean_b|^2 + trace(C_a + C_b - 2 (C_a C_b)^(1/2)), C the covariances (Dowson and Landau 1982).
    Heusel and others (2017) use it on the features of another network: that is the FID. Ours is not.
    """
    if not all(
        np.ndim(part) == 2 and len(part) > 1 and np.isfinite(part).all()
        for part in (a, b)
    ):
        raise ValueError(
            "a and b must be finite features (n, d) and (m, d), of two or more images each."
        )
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"a and b must have the same number of features, not {a.shape[1]} and {b.shape[1]}."
        )
    cov_a, cov_b = (np.atleast_2d(np.cov(part, rowvar=False)) for part in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T  # the square root of cov_a
    # (C_a C_b)^(1/2) has the same trace as (root C_b root)^(1/2), and that matrix is symmetric.
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(
        np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
        + np.trace(cov_a)
        + np.trace(cov_b)
        - 2 * cross
    )


def sample_from_mixture(codes, components, n, seed=0):
    """`n` codes from a mixture of `components` normal distributions fitted to codes (m, d): (n, d) float32."""
    if (
        codes.ndim != 2
        or len(codes) < max(2, components)
        or not np.isfinite(codes).all()
    ):
        raise ValueError(
            f"codes must be finite numbers (m, d) with m >= {max(2, components)}, not {codes.shape}."
        )
    with threadpool_limits(
        1
    ):  # of products so small, two threads make one in twice the time
        mixture = GaussianMixture(components, random_state=seed).fit(
            codes.astype("float64")
        )
    return (
        np.random.default_rng(seed).permutation(mixture.sample(n)[0]).astype("float32")
    )


FITTED = {"one Gaussian": 1, "mixture of 10": 10, "mixture of 50": 50}


def sample_codes(codes, n=IMAGES):
    """Codes to decode, from N(0, I) and from densities fitted to training codes (m, d): name -> (n, d).

    Where no code is negative (ReLU), negative draws from the fitted ones are set to 0.
    """
    normal = np.random.default_rng(0).normal(size=(n, codes.shape[1])).astype("float32")
    drawn = {
        name: sample_from_mixture(codes[:20_000], components, n)
        for name, components in FITTED.items()
    }
    if codes.min() >= 0:
        drawn = {name: part.clip(0) for name, part in drawn.items()}
    return {"N(0, I)": normal, **drawn}


def importance_bound(encoder, decoder, x, draws, groups, seed=0, nll=vh.bernoulli_nll):
    """Upper bounds on -log p(x) in nats from several codes an image (Burda and others 2016, equation 8).

    Of `draws` codes for each image x (n, 784), a bound uses as many as `groups` (divisors of `draws`) says;
    1 gives -ELBO. `nll` is -log p(x | z). Returns (len(groups), n): for each, the average over the groups.
    """
    x = vh.check_images(x) if nll is vh.bernoulli_nll else x
    if any(not 1 <= size <= draws or draws % size for size in groups):
        raise ValueError(f"groups must be divisors of draws, {draws}, not {groups}.")
    rng = np.random.default_rng(seed)
    bounds = np.empty((len(groups), len(x)))
    for i, image in enumerate(x):
        z_mean, z_log_var = (np.asarray(part)[0] for part in encoder(image[None]))
        noise = rng.normal(size=(draws, len(z_mean))).astype("float32")
        z = z_mean + np.exp(0.5 * z_log_var) * noise
        log_p_x = -np.asarray(
            nll(np.broadcast_to(image, (draws, len(image))), decoder(z)), "float64"
        )
        log_ratio = 0.5 * np.sum(
            noise**2 + z_log_var - z**2, axis=1
        )  # log p(z) - log q(z | x)
        log_weights = log_p_x + log_ratio  # (draws,)
        for k, size in enumerate(groups):
            bounds[k, i] = -np.mean(
                logsumexp(log_weights.reshape(-1, size), axis=1) - np.log(size)
            )
    return bounds
