"""Checks of the exercises on chapter 03, and the four models of the symptom clinic."""

import functools

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np
from keras import layers, ops

from course.exercises import common

__all__ = [
    "kl_by_hand", "which_beta", "loss", "log_sigma", "sampling_layer", "validation",
    "training_flag", "clinic", "conditional", "train_patients"
]  # fmt: skip


def exact_kl(z_mean, z_log_var):
    """`vh.kl_to_prior` in float64, summed over the last axis."""
    parts = (np.asarray(part, "float64") for part in (z_mean, z_log_var))
    return np.asarray(vh.kl_to_prior(*parts)).sum(axis=-1)


@common.check
def kl_by_hand(prediction, answer):
    mean, sigma = np.array([[2.0], [0.0]]), np.array([[1.0], [0.5]])
    each = exact_kl(mean, 2 * np.log(sigma))  # of the two dimensions
    right = each.sum()
    mistakes = {
        "this is the average over the two dimensions: how do the KL terms of "
        "independent dimensions combine?": right / 2,
        "this is in bits: use nats, with the natural logarithm.": right / np.log(2),
        "the part of the mean is right, that of the width is not: is it the standard "
        "deviation or the variance?": exact_kl(mean, np.log(sigma)).sum(),
        "this is the KL of one dimension only.": each[0],
    }
    common.diagnose(answer, right, mistakes, "the answer", rtol=5e-3)
    remark = common.compare_prediction(prediction, right, " nats")
    return (
        f"{remark} The first dimension has {each[0]:.1f} of it: a mean far from the "
        "prior's weighs more than a width."
    )


@common.check
def which_beta(answer):
    losses = {  # r: BCE summed over the pixels, k: KL summed over the dimensions
        "first": lambda r, k: 500 * (r / 1024) + k,
        "second": lambda r, k: 784 * (r / 784 + k),
        "third": lambda r, k: r + k / 20,
    }
    values = common.require_shape(answer, (3,))
    for value, (place, loss) in zip(values, losses.items()):
        right = (loss(0, 1) - loss(0, 0)) / (loss(1, 0) - loss(0, 0))
        hint = f"the {place} value is inverted: β is the weight of KL."
        common.diagnose(value, right, {hint: 1 / right}, f"the {place} value", 5e-3)
    return "a mean in the place of a sum is a weight of KL, whatever stands in front."


@common.find_the_bug
def loss(function):
    rng = np.random.default_rng(0)
    for dimensions in (10, 4):
        x = rng.random((8, 784)).astype("float32")
        x_hat = rng.uniform(0.1, 0.9, (8, 784)).astype("float32")
        posteriors = common.make_posteriors(8, dimensions)
        r, k = np.mean(vh.bernoulli_nll(x, x_hat)), exact_kl(*posteriors).mean()
        added = "one nat of KL adds {} to the loss, with {} dimensions."
        mistakes = {
            added.format(share, dimensions): r + share * k
            for share in (1 / dimensions, 10 / dimensions)
        }
        mistakes |= {
            "the loss grows with the number of images.": 8 * (r + k),
            "both terms are averaged: the balance is right, the scale is not.": (
                (r + k) / 784
            ),
        }
        result = common.call(function, x, x_hat, *posteriors)
        common.diagnose(result, r + k, mistakes, "the loss")
    return (
        "one nat of either term adds one to the loss, for any number of dimensions; as "
        "given, it was trained with β = 0.1."
    )


@common.find_the_bug
def log_sigma(function):
    mean, log_var = common.make_posteriors(50)
    half = log_var / 2
    noise = np.random.default_rng(1).normal(size=mean.shape).astype("float32")
    z, kl = common.call_for(2, function, mean, half, noise)
    code = "the code, which was right as given,"
    common.diagnose(z, mean + np.exp(half) * noise, what=code)
    terms = np.square(mean) - 1
    halves = "one of two terms is corrected: which others hold the width?"
    mistakes = {
        "the code is drawn with one width, and the KL is that of another.": exact_kl(
            mean, half
        ),
        halves: 0.5 * (terms + np.exp(log_var) - half).sum(axis=1),
        f"still, {halves}": 0.5 * (terms + np.exp(half) - log_var).sum(axis=1),
    }
    common.diagnose(kl, exact_kl(mean, log_var), mistakes, "the KL")
    return "code and KL now belong to one distribution: two formulas share one name."


@common.find_the_bug
def sampling_layer(layer):
    layer = common.call(layer) if isinstance(layer, type) else layer
    posteriors = [ops.convert_to_tensor(part) for part in common.make_posteriors(2_000)]
    z_mean, z_log_var = map(np.asarray, posteriors)

    def noise_of(function):
        z = common.require_shape(common.call(function, posteriors), (2_000, 10))
        return (z - z_mean) / np.exp(0.5 * z_log_var)

    noise, other = noise_of(layer), noise_of(layer)
    problems = {
        "the layer adds no noise.": common.is_close(noise, 0 * noise),
        "called twice with the same means and log-variances, the layer returns the "
        "same codes.": common.is_close(noise, other),
        "the noise is new in every call, but the same for all images of a batch.": (
            common.is_close(noise[0], noise[1])
        ),
        "the ten numbers of a code share one noise.": common.is_close(
            noise[:, 0], noise[:, 1], atol=1e-2
        ),
        "the noise is new in every call, but the codes do not have the mean and the "
        "width of their distributions.": not common.is_standard_normal(noise),
    }
    common.refuse(problems)
    model = keras.Sequential([layers.Lambda(lambda parts: layer(parts))])
    compiled = [noise_of(model.predict_on_batch) for _ in range(2)]
    hint = (
        "the noise is new when you call the layer, but not in training: Keras compiles "
        "the training step, and NumPy runs only once, during compilation."
    )
    common.refuse({hint: common.is_close(*compiled)})
    return "every image gets new noise in every step, in a compiled step, too."


@common.find_the_bug
def validation(model):
    x = common.load_images()[0][:200]

    def measure(vae, training):
        """Reconstructions and the rest of the losses, of four calls, both (4,)."""
        nll, loss = [], []
        for _ in range(4):
            x_hat = common.call(functools.partial(vae, training=training), x)
            nll.append(np.mean(vh.bernoulli_nll(x, x_hat)))
            loss.append(float(vae.compute_loss(x, x, ops.convert_to_tensor(x_hat))))
        return np.array(nll), np.subtract(loss, nll)

    encoder, decoder = common.load_reference()
    right, vae = vh.VAE(encoder, decoder, seed=0), common.call(model, encoder, decoder)
    for training, when in {True: "in training", False: "in validation"}.items():
        (nll, kl), expected = measure(vae, training), measure(right, training)
        problems = {
            f"{when}, the same images give the same reconstruction every time.": (
                np.ptp(nll) == 0
            ),
            f"{when}, the codes do not follow their distributions.": (
                abs(nll.mean() - expected[0].mean()) > 1
            ),
        }
        common.refuse(problems)
        common.diagnose(kl, expected[1], what=f"{when}, the KL", rtol=1e-2)
    return (
        "both losses are now of sampled codes: they can be compared, once you "
        "have subtracted the entropy of each set's pixels."
    )


@common.find_the_bug
def training_flag(kind):
    keras.utils.set_random_seed(0)
    x = common.load_images()[0][:64]
    norms = [layers.BatchNormalization(), layers.BatchNormalization()]
    image, z = keras.Input((784,)), keras.Input((10,))
    h = layers.Dropout(0.5)(norms[0](layers.Dense(32)(image)))
    encoder = keras.Model(image, [layers.Dense(10)(h), layers.Dense(10)(h)])
    h = layers.Dropout(0.5)(norms[1](layers.Dense(32)(z)))
    decoder = keras.Model(z, layers.Dense(784, activation="sigmoid")(h))
    vae = common.call(kind, encoder, decoder)
    vae.compile(optimizer="adam", run_eagerly=True)
    common.call(vae.fit, x, x, 64, 1, 0)
    moved = [np.asarray(norm.moving_mean) for norm in norms]
    problems = {
        f"after a training step, the moving mean of the {part}'s BatchNormalization is "
        "still 0, as if the network had not been in training.": not mean.any()
        for part, mean in zip(("encoder", "decoder"), moved)
    }
    common.refuse(problems)
    kls = []
    for model in (vae, vae, vh.VAE(encoder, decoder)):  # in validation
        common.call(functools.partial(model, training=False), x)
        kls.append(float(model.losses[0]) if model.losses else None)
    is_training = kls[0] != kls[1] or (moved[0] != norms[0].moving_mean).any()
    hint = "the network is in training mode in validation, too."
    common.refuse({hint: is_training})
    common.diagnose(kls[0], kls[2], what="the KL, which `call` adds to the losses,")
    return (
        "Dropout and BatchNormalization now do their work in training, and only there."
    )


# ---------------------------------------------------------------- the symptom clinic


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


# ---------------------------------------------------------------- stretch


@common.check
def conditional(build):
    x, y = (part[:512] for part in common.load_images())
    one_hot = np.eye(10, dtype="float32")
    keras.utils.set_random_seed(0)
    model = common.call(build)
    hint = "the decoder should have two inputs, a code and a label."
    common.refuse({hint: len(model.decoder.inputs) != 2})
    shape = (50, model.decoder.inputs[0].shape[1])
    z = np.random.default_rng(0).normal(size=shape).astype("float32")
    images, kls = [], []
    for label in one_hot:  # the same codes for each class
        output = common.call(model.decoder, [z, np.tile(label, (50, 1))])
        images.append(common.require_images(output, 50, "the decoder's output"))
    for classes in (y, (y + 1) % 10):
        common.call(model, [x, one_hot[classes]])
        common.refuse({"`call` does not add the KL to the losses.": not model.losses})
        kls.append(common.require_array(model.losses[0], "the KL"))
    same = "the decoder returns the same image for every {}: where does it go?"
    problems = {
        same.format("class"): np.ptp(images, axis=0).max() < 1e-6,
        same.format("code"): np.ptp(images, axis=1).max() < 1e-6,
        "the encoder returns the same distribution for every class: give it the label, "
        "too.": common.is_close(*kls, 0, 1e-6),
    }
    common.refuse(problems)
    common.train_briefly(model, [x, one_hot[y]], x)
    return "the requested class changes the image, and the code need not hold it."
