"""Checks of the exercises on chapter 03, and the four models of the symptom clinic."""

import keras
import numpy as np
from keras import layers

import vae_helpers as vh
from course.exercises import common


def exact_kl(z_mean, z_log_var):
    """`vh.kl_to_prior` summed over the last axis, as an array."""
    return np.asarray(vh.kl_to_prior(z_mean, z_log_var)).sum(axis=-1)


@common.check
def kl_by_hand(prediction, answer):
    right = 2 + 0.5 * (0.25 - 1 - np.log(0.25))  # of the two dimensions
    mistakes = {
        "this is the average over the two dimensions: how do the KL terms of "
        "independent dimensions combine?": right / 2,
        "the part of the mean is right, that of the width is not: is it the standard "
        "deviation or the variance?": 2 + 0.5 * (0.5 - 1 - np.log(0.5)),
    }
    common.diagnose(answer, right, mistakes, "the answer", rtol=5e-3)
    return (
        f"you predicted {prediction} nats; the result is {right:.3f} nats. The first "
        "dimension has 2 of it: a mean far from the prior's weighs more than a width."
    )


@common.check
def which_beta(answer):
    betas = {"first": 1024 / 500, "second": 784, "third": 1 / 20}
    for value, place in zip(common.require_array(answer, (3,)), betas):
        hint = f"the {place} value is inverted: β is the weight of KL."
        mistakes = {hint: 1 / betas[place]}
        common.diagnose(value, betas[place], mistakes, f"the {place} value", 5e-3)
    return "a mean in the place of a sum is a weight of KL, whatever stands in front."


@common.find_the_bug
def loss(function):
    posteriors = common.make_posteriors(8, 4)
    rng = np.random.default_rng(0)
    x = rng.random((8, 784)).astype("float32")
    x_hat = rng.uniform(0.1, 0.9, (8, 784)).astype("float32")
    r, k = np.mean(vh.bernoulli_nll(x, x_hat)), exact_kl(*posteriors).mean()
    mistakes = {
        "with 4 dimensions, one nat of KL adds 0.25 to the loss.": r + k / 4,
        "with 4 dimensions, one nat of KL adds 2.5 to the loss.": r + 10 * k / 4,
        "the loss grows with the number of images.": 8 * (r + k),
    }
    result = common.call(function, x, x_hat, *posteriors)
    common.diagnose(result, r + k, mistakes, "the loss")
    return (
        "one nat of either term adds one to the loss, for any number of dimensions; "
        "as given, ten dimensions meant β = 0.1."
    )


@common.find_the_bug
def log_sigma(function):
    mean, log_var = common.make_posteriors(50)
    half = log_var / 2
    noise = np.random.default_rng(1).normal(size=mean.shape).astype("float32")
    z, kl = common.call(function, mean, half, noise)
    right = mean + np.exp(half) * noise
    common.diagnose(z, right, what="the code, which was right as given,")
    halves = "one of two terms is corrected: which other holds the width?"
    terms = np.square(mean) - 1
    mistakes = {
        "the KL is that of another width than the code's.": exact_kl(mean, half),
        halves: 0.5 * (terms + np.exp(log_var) - half).sum(axis=1),
        f"only {halves}": 0.5 * (terms + np.exp(half) - log_var).sum(axis=1),
    }
    common.diagnose(kl, exact_kl(mean, log_var), mistakes, "the KL")
    return "code and KL now belong to one distribution: two formulas share one name."


@common.find_the_bug
def sampling_layer(layer):
    layer = common.call(layer) if isinstance(layer, type) else layer
    posteriors = common.make_posteriors(2_000)
    compiled = keras.Sequential([layers.Lambda(lambda parts: layer(parts))])
    z_mean, z_log_var = posteriors
    functions = (layer, layer, compiled.predict_on_batch, compiled.predict_on_batch)
    noise = []
    for function in functions:
        z = common.require_array(common.call(function, posteriors), (2_000, 10))
        noise.append((z - z_mean) / np.exp(0.5 * z_log_var))
    problems = {
        "called twice with the same means and log-variances, the layer returns the "
        "same codes.": common.is_close(noise[0], noise[1]),
        "the noise is new in every call, but the same for all images of a batch.": (
            common.is_close(noise[0][0], noise[0][1])
        ),
        "the noise is new in every call, but it does not follow N(0, I): the ten "
        "numbers of a code are independent, each with mean 0 and variance 1.": (
            not common.is_standard_normal(noise[0])
        ),
        "the noise is new when you call the layer, but not in training: Keras compiles "
        "the training step, and NumPy runs only once, during compilation.": (
            common.is_close(noise[2], noise[3])
        ),
    }
    common.refuse(problems)
    return "every image gets new noise in every step, in a compiled step, too."


@common.find_the_bug
def validation(kind):
    x = common.load_images()[0][:200]
    encoder, decoder = common.load_reference()
    right, vae = vh.VAE(encoder, decoder, seed=0), common.call(kind, encoder, decoder)
    for training, when in {True: "in training", False: "in validation"}.items():
        first, second = (common.call(vae, x, training=training) for _ in range(2))
        hint = f"{when}, the same images give the same reconstruction every time."
        common.refuse({hint: common.is_close(first, second)})
        nll, expected = (np.mean(vh.bernoulli_nll(x, y)) for y in (first, right(x)))
        common.diagnose(nll, expected, (), f"{when}, the reconstruction", rtol=4e-3)
        kl, expected = sum(vae.losses), sum(right.losses)
        common.diagnose(kl, expected, (), f"{when}, the KL in the losses", rtol=1e-2)
    return (
        "both losses are now of sampled codes: they can be compared, once you "
        "have subtracted the entropy of each set's pixels."
    )


@common.find_the_bug
def training_flag(kind):
    x = common.load_images()[0][:64]
    image, z = keras.Input((784,)), keras.Input((10,))
    norms = {name: layers.BatchNormalization() for name in ("encoder", "decoder")}
    h = norms["encoder"](image)
    encoder = keras.Model(image, [layers.Dense(10)(h), layers.Dense(10)(h)])
    h = norms["decoder"](z)
    decoder = keras.Model(z, layers.Dense(784, activation="sigmoid")(h))
    vae = common.call(kind, encoder, decoder)
    vae.compile(optimizer="adam", run_eagerly=True)
    means = []
    for step in (vae.train_on_batch, vae.test_on_batch):
        step(x, x)
        means.append([np.array(norm.moving_mean) for norm in norms.values()])
    for name, trained, tested in zip(norms, *means):
        problems = {
            f"in training, the moving mean of the {name}'s BatchNormalization stays 0: "
            "the network does not know that it is in training.": not trained.any(),
            f"the {name} is in training mode in validation, too.": (
                not np.array_equal(trained, tested)
            ),
        }
        common.refuse(problems)
    common.call(vae, x, training=False)
    kl = exact_kl(*encoder(x)).mean()
    common.diagnose(sum(vae.losses), kl, what="the KL, which `call` adds,")
    return (
        "Dropout and BatchNormalization now do their work in training, and only there."
    )


class SwappedArguments(vh.VAE):
    """The image and its reconstruction have changed places in the cross-entropy."""

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return super().compute_loss(x, y_pred, y, training=training)


def train_patients(x, y, epochs=30):
    """Train a healthy small VAE and four others on 4,000 of these images.

    Returns {name: model}, the healthy one first. About half a minute in all.
    """
    amount, models = min(4_000, len(x) // 4), {}
    first, sorted_first = x[:amount], x[np.argsort(y, kind="stable")[:amount]]
    variants = {  # the class, the weight of KL, the images
        "healthy": (vh.VAE, 1.0, first),
        "A": (SwappedArguments, 1.0, first),
        "B": (vh.VAE, 0.1, first),  # KL averaged over 10 dimensions
        "C": (vh.VAE, 1.0, sorted_first),
        "D": (vh.VAE, 784.0, first),  # BCE averaged over 784 pixels
    }
    for name, (kind, weight, images) in variants.items():
        keras.utils.set_random_seed(vh.SEED)
        image, code = keras.Input((784,)), keras.Input((10,))
        h = layers.Dense(256, activation="relu")(image)
        encoder = keras.Model(image, [layers.Dense(10)(h), layers.Dense(10)(h)])
        h = layers.Dense(256, activation="relu")(code)
        decoder = keras.Model(code, layers.Dense(784, activation="sigmoid")(h))
        models[name] = kind(encoder, decoder, weight)
        models[name].compile(optimizer="adam")
        vh.fit(models[name], images, images, batch_size=64, epochs=epochs, verbose=0)
    return models


@common.check
def clinic(diagnosis):
    common.match_letters(diagnosis, {"A": 3, "B": 1, "C": 5, "D": 2})
    return (
        "three numbers and two rows of pictures tell these mistakes apart before "
        "anybody reads the code."
    )


@common.check
def conditional(build):
    x, y = (part[:512] for part in common.load_images())
    one_hot = np.eye(10, dtype="float32")
    model = common.call(build)
    shape = (50, model.decoder.inputs[0].shape[1])
    z = np.random.default_rng(0).normal(size=shape).astype("float32")
    kls, images = [], []
    for label in one_hot:  # the same codes for each class
        output = model.decoder([z, np.tile(label, (50, 1))])
        images.append(common.require_images(output, 50, "the decoder's output"))
    for classes in (y, (y + 1) % 10):
        common.call(model, [x, one_hot[classes]])
        kls.append(float(sum(model.losses)))
    same = "the decoder returns the same image for every {}: where does it go?"
    problems = {
        same.format("class"): np.ptp(images, axis=0).max() < 1e-6,
        same.format("code"): np.ptp(images, axis=1).max() < 1e-6,
        "the KL in the losses is the same for every class: give the encoder the label, "
        "too.": common.is_close(*kls, 0, 1e-6),
    }
    common.refuse(problems)
    model.compile(optimizer="adam", run_eagerly=True)
    losses = model.fit([x, one_hot[y]], x, epochs=2, verbose=0).history["loss"]
    hint = "the training loss does not fall in two short epochs."
    common.refuse({hint: not losses[1] < losses[0]})  # NaN fails this comparison
    return "the requested class changes the image, and the code need not hold it."
