"""Checks of the exercises on chapter 03, and the four models of the symptom clinic."""

import functools

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np
from keras import layers, ops

from course.exercises.common import (
    WrongAnswer,
    call,
    call_for,
    check,
    compare_prediction,
    diagnose,
    find_the_bug,
    is_close,
    load_images,
    load_reference,
    make_posteriors,
    require_array,
    require_images,
    require_shape,
    train_briefly,
)

__all__ = [
    "kl_by_hand", "which_beta", "loss", "log_sigma", "sampling_layer", "validation",
    "training_flag", "clinic", "conditional", "train_patients", "PATIENTS",
]  # fmt: skip


def exact_kl(z_mean, z_log_var):
    """`vh.kl_to_prior` in float64, summed over the last axis."""
    parts = (np.asarray(part, "float64") for part in (z_mean, z_log_var))
    return np.asarray(vh.kl_to_prior(*parts)).sum(axis=-1)


@check
def kl_by_hand(prediction, answer):
    mean, sigma = np.array([[2.0], [0.0]]), np.array([[1.0], [0.5]])
    each = exact_kl(mean, 2 * np.log(sigma))  # of the two dimensions
    right = each.sum()
    confused = [exact_kl(mean, power * np.log(sigma)).sum() for power in (1, 4)]
    width = "the part of the mean is right, that of the width is not: is it the "
    mistakes = {
        "this is the average over the two dimensions: how do the KL terms of "
        "independent dimensions combine?": right / 2,
        "this is in bits: use nats, with the natural logarithm.": right / np.log(2),
        f"{width}standard deviation or the variance?": confused[0],
        f"{width}variance or its square?": confused[1],
        "this is the KL of the first dimension only.": each[0],
        "this is the KL of the second dimension only.": each[1],
    }
    diagnose(answer, right, mistakes, "the answer", rtol=5e-3)
    return (
        f"{compare_prediction(prediction, right, ' nats')} The first dimension has "
        f"{each[0]:.1f} of it: a mean far from the prior's weighs more than a width."
    )


@check
def which_beta(answer):
    losses = {  # r: BCE summed over the pixels, k: KL summed over the dimensions
        "first": lambda r, k: 500 * (r / 1024) + k,
        "second": lambda r, k: 784 * (r / 784 + k),
        "third": lambda r, k: r + k / 20,
    }
    for value, (place, loss) in zip(require_shape(answer, (3,)), losses.items()):
        right = (loss(0, 1) - loss(0, 0)) / (loss(1, 0) - loss(0, 0))
        mistakes = {
            f"the {place} value is inverted: β is the weight of KL relative to that "
            "of the reconstruction.": 1 / right,
        }
        diagnose(value, right, mistakes, f"the {place} value", rtol=5e-3)
    return "a mean in the place of a sum is a weight of KL, whatever stands in front."


@find_the_bug
def loss(function):
    rng = np.random.default_rng(0)
    for dimensions in (10, 4):
        x = rng.random((8, 784)).astype("float32")
        x_hat = rng.uniform(0.1, 0.9, (8, 784)).astype("float32")
        posteriors = make_posteriors(8, dimensions)
        r, k = np.mean(vh.bernoulli_nll(x, x_hat)), exact_kl(*posteriors).mean()
        terms = "one nat of KL adds {} to the loss, with {} dimensions."
        mistakes = {
            terms.format(share, dimensions): r + share * k
            for share in (0.1, 0.25, 2.5, 10 / 4)
        }
        mistakes |= {
            "the loss grows with the number of images in the batch.": 8 * (r + k),
            "the balance of the two terms is right, the scale is not.": (r + k) / 784,
            "one nat of reconstruction adds much less than one to the loss.": r / 784
            + k,
            "the result has one loss for each image: average over the batch.": np.array(
                vh.bernoulli_nll(x, x_hat) + exact_kl(*posteriors)
            ),
        }
        diagnose(call(function, x, x_hat, *posteriors), r + k, mistakes, "the loss")
    return (
        "one nat of either term adds one to the loss, for any number of dimensions; as "
        "given, it was trained with β = 0.1."
    )


@find_the_bug
def log_sigma(function):
    mean, log_var = make_posteriors(50)
    half = log_var / 2
    noise = np.random.default_rng(1).normal(size=mean.shape).astype("float32")
    z, kl = call_for(2, function, mean, half, noise)
    mistakes = {
        "the code has the wrong width: it was right as given.": mean
        + np.exp(half / 2) * noise,
        "the noise is scaled by the variance.": mean + np.exp(log_var) * noise,
    }
    diagnose(z, mean + np.exp(half) * noise, mistakes, "the code")
    terms = np.square(mean) - 1
    halves = "one of two terms is corrected: which others hold the width?"
    mistakes = {
        "the code is drawn with one width, and the KL is that of another.": exact_kl(
            mean, half
        ),
        halves: 0.5 * (terms + np.exp(log_var) - half).sum(axis=1),
        f"still, {halves}": 0.5 * (terms + np.exp(half) - log_var).sum(axis=1),
        "sum the KL over the dimensions, one number per image.": exact_kl(
            mean, log_var
        ).mean(),
    }
    diagnose(kl, exact_kl(mean, log_var), mistakes, "the KL")
    return "code and KL now belong to one distribution: two formulas share one name."


@find_the_bug
def sampling_layer(layer):
    layer = call(layer) if isinstance(layer, type) else layer
    posteriors = [ops.convert_to_tensor(part) for part in make_posteriors(2_000)]
    z_mean, z_log_var = map(np.asarray, posteriors)

    def noise_of(function):
        z = require_shape(call(function, posteriors), (2_000, 10))
        return (z - z_mean) / np.exp(0.5 * z_log_var)

    noise, other = noise_of(layer), noise_of(layer)
    problems = {
        "the layer adds no noise.": is_close(noise, 0 * noise),
        "called twice with the same means and log-variances, the layer returns the "
        "same codes.": is_close(noise, other),
        "the noise is new in every call, but the same for all images of a batch."
        "": is_close(noise[0], noise[1]),
        "the ten numbers of a code share one noise.": is_close(
            noise[:, 0], noise[:, 1], atol=1e-2
        ),
        "the noise is new in every call, but the codes do not have the mean and the "
        "width of their distributions.": np.abs(noise.std(axis=0) - 1).max() > 0.1
        or np.abs(noise.mean(axis=0)).max() > 0.15,
    }
    for problem, is_there in problems.items():
        if is_there:
            raise WrongAnswer(problem)
    model = keras.Sequential([layers.Lambda(lambda parts: layer(parts))])
    predict = functools.partial(model.predict_on_batch)
    if is_close(noise_of(predict), noise_of(predict)):
        raise WrongAnswer(
            "the noise is new when you call the layer, but not in training: Keras "
            "compiles the training step, and NumPy runs only once, during compilation."
        )
    return "every image gets new noise in every step, in a compiled step, too."


@find_the_bug
def validation(model):
    x = load_images()[0][:200]

    def measure(vae, training):
        """Reconstruction and loss, of four calls, both (4,)."""
        rows = []
        for _ in range(4):
            x_hat = require_images(
                call(functools.partial(vae, training=training), x), 200, "the output"
            )
            nll = np.mean(vh.bernoulli_nll(x, x_hat))
            rows.append(
                [nll, float(vae.compute_loss(x, x, ops.convert_to_tensor(x_hat)))]
            )
        return np.array(rows).T

    right, vae = vh.VAE(*load_reference(), seed=0), call(model, *load_reference())
    for training in (True, False):
        when = "in training" if training else "in validation"
        expected, result = measure(right, training), measure(vae, training)
        if np.ptp(result[0]) == 0:
            raise WrongAnswer(
                f"{when}, the same images give the same reconstruction every time."
            )
        if not is_close(result[0].mean(), expected[0].mean(), atol=1.0):
            raise WrongAnswer(f"{when}, the codes do not follow their distributions.")
        if not is_close(result[1] - result[0], expected[1] - expected[0], 1e-2):
            raise WrongAnswer(f"{when}, the KL is not that of chapter 03.")
    return (
        "both losses are now of codes that were drawn: they can be compared, once you "
        "have subtracted the entropy of each set's pixels."
    )


@find_the_bug
def training_flag(kind):
    keras.utils.set_random_seed(0)
    x = load_images()[0][:64]
    norms = [layers.BatchNormalization(), layers.BatchNormalization()]
    image, z = keras.Input((784,)), keras.Input((10,))
    h = layers.Dropout(0.5)(norms[0](layers.Dense(32)(image)))
    encoder = keras.Model(image, [layers.Dense(10)(h), layers.Dense(10)(h)])
    h = layers.Dropout(0.5)(norms[1](layers.Dense(32)(z)))
    decoder = keras.Model(z, layers.Dense(784, activation="sigmoid")(h))
    vae = call(kind, encoder, decoder)
    vae.compile(optimizer="adam", run_eagerly=True)
    call(vae.fit, x, x, 64, 1, 0)
    for part, norm in zip(("encoder", "decoder"), norms):
        if not np.asarray(norm.moving_mean).any():
            raise WrongAnswer(
                f"after a training step, the moving mean of the {part}'s "
                "BatchNormalization is still 0, as if the network had not been in "
                "training."
            )
    before, kls = np.asarray(norms[0].moving_mean), []
    for model in (vae, vae, vh.VAE(encoder, decoder)):  # in validation
        call(functools.partial(model, training=False), x)
        kls.append(float(model.losses[0]) if model.losses else None)
    if not is_close(before, norms[0].moving_mean) or kls[0] != kls[1]:
        raise WrongAnswer("the network is in training mode in validation, too.")
    diagnose(kls[0], kls[2], what="the KL, which `call` adds to the losses,")
    return (
        "Dropout and BatchNormalization now do their work in training, and only there."
    )


# ---------------------------------------------------------------- the symptom clinic


class SwappedArguments(vh.VAE):
    """The image and its reconstruction have changed places in the cross-entropy."""

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return super().compute_loss(x, y_pred, y, training=training)


# What was wrong in each: the number in the exercise's list, and changes to a VAE.
PATIENTS = {
    "A": (3, {"kind": SwappedArguments}),
    "B": (1, {"kl_weight": 0.1}),  # KL averaged over 10 dimensions
    "C": (5, {"is_sorted": True}),  # the first images of a list sorted by class
    "D": (2, {"kl_weight": 784.0}),  # BCE averaged over 784 pixels
}


def train_patients(x, y, epochs=30):
    """Train a healthy small VAE and the four of PATIENTS on 4,000 of these images.

    Returns {name: model}, the healthy one first. About half a minute in all.
    """
    models = {}
    for name, (_, changes) in {"healthy": (0, {}), **PATIENTS}.items():
        keras.utils.set_random_seed(vh.SEED)
        image, code = keras.Input((784,)), keras.Input((10,))
        h = layers.Dense(256, activation="relu")(image)
        encoder = keras.Model(image, [layers.Dense(10)(h), layers.Dense(10)(h)])
        h = layers.Dense(256, activation="relu")(code)
        decoder = keras.Model(code, layers.Dense(784, activation="sigmoid")(h))
        kind, weight = changes.get("kind", vh.VAE), changes.get("kl_weight", 1.0)
        models[name] = kind(encoder, decoder, weight)
        models[name].compile(optimizer="adam")
        order = np.argsort(y, kind="stable") if "is_sorted" in changes else slice(None)
        part = x[order][: min(4_000, len(x) // 4)]
        vh.fit(models[name], part, part, batch_size=64, epochs=epochs, verbose=0)
    return models


@check
def clinic(diagnosis):
    if not isinstance(diagnosis, dict) or set(diagnosis) != set(PATIENTS):
        raise WrongAnswer("the answer should have a number for each of A, B, C and D.")
    right = {name: cause for name, (cause, _) in PATIENTS.items()}
    wrong = [name for name in PATIENTS if diagnosis[name] != right[name]]
    if wrong:
        raise WrongAnswer(f"{4 - len(wrong)} of 4 are right.")
    return (
        "three numbers and two rows of pictures tell these mistakes apart before "
        "anybody reads the code."
    )


# ---------------------------------------------------------------- stretch


@check
def conditional(build):
    x, y = (part[:512] for part in load_images())
    one_hot = np.eye(10, dtype="float32")
    keras.utils.set_random_seed(0)
    model = call(build)
    if len(model.decoder.inputs) != 2:
        raise WrongAnswer("the decoder should have two inputs, a code and a label.")
    shape = (50, model.decoder.inputs[0].shape[1])
    z = np.random.default_rng(0).normal(size=shape).astype("float32")
    images = []
    for label in one_hot:  # the same codes for each class
        output = call(model.decoder, [z, np.tile(label, (50, 1))])
        images.append(require_images(output, 50, "the decoder's output"))
    problem = "the decoder returns the same image for every {}: where does it go?"
    for axis, name in enumerate(("class", "code")):
        if np.ptp(images, axis=axis).max() < 1e-6:
            raise WrongAnswer(problem.format(name))
    kls = []
    for classes in (y, (y + 1) % 10):
        call(model, [x, one_hot[classes]])
        if not model.losses:
            raise WrongAnswer("`call` does not add the KL to the losses.")
        kls.append(require_array(model.losses[0], "the KL"))
    if is_close(*kls, 0, 1e-6):
        raise WrongAnswer(
            "the encoder returns the same distribution for every class: give it the "
            "label, too."
        )
    train_briefly(model, [x, one_hot[y]], x)
    return "the requested class changes the image, and the code need not hold it."
