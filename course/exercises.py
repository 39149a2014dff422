"""The checks of exercises.ipynb: `exercises.NAME(answer)` prints "right", "not yet: ..." or "not answered yet".

A check tries the answer out: on inputs of its own it compares values, spreads and dependences with what
chapter and helper module promise. How the answer is written does not matter: NumPy, keras.ops or TensorFlow,
arrays, lists or single numbers, (n,) or (n, 1).
"""

import functools
import re
import traceback

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from scipy.stats import chi2

import course
from course.data import load_sample

VERDICTS = {}  # name of a check -> its last verdict


class NotYet(Exception):
    """What is wrong with an answer, in a sentence."""


class Unanswered(Exception):
    """The placeholder still stands where the answer belongs."""


def check(function):
    """Turn a function that raises `NotYet` or `Unanswered` into a check that prints its verdict."""
    name = function.__name__
    VERDICTS[name] = "not answered yet"

    @functools.wraps(function)
    def judge(*answers):
        try:
            missing = [answer is None or answer is ... for answer in answers]
            if missing[-1]:
                raise Unanswered
            if any(missing):
                raise Unanswered("the prediction is missing.")
            remark = function(*answers)
            verdict = f"right: {remark}" if remark else "right"
        except Unanswered as reason:
            verdict = (
                f"not answered yet: {reason}" if str(reason) else "not answered yet"
            )
        except NotYet as problem:
            verdict = f"not yet: {problem}"
        except Exception as error:  # the student's code may fail wherever it is used
            verdict = f"not yet: your answer could not be used ({said(error)})."
        VERDICTS[name] = verdict
        print(verdict)

    return judge


def summary():
    """Print how far you are: one line for each check, and the number that are right."""
    for name, verdict in VERDICTS.items():
        print(f"{name:<18} {verdict.split(':')[0]}")
    print(
        f"right: {sum(verdict.startswith('right') for verdict in VERDICTS.values())} of {len(VERDICTS)}"
    )


# ---------------------------------------------------------------- tools


def said(error):
    """An exception in one line: its name and its first sentence (what Keras sets in bold), without control codes."""
    bold = re.search(r"\x1b\[1m(.+?)\x1b\[0m", str(error), re.S)
    message = " ".join(
        re.sub(
            r"\x1b\[\d*m|\{\{.*?\}\}|\[Op:.*", "", bold[1] if bold else str(error)
        ).split()
    )
    message = re.split(r"(?<=[.!?]) (?=[A-Z])", message)[0].rstrip(".")
    return (
        f"{type(error).__name__}: {message[:240]}{'...' if len(message) > 240 else ''}"
        if message
        else repr(error)
    )


def call(function, *arguments):
    """What the student's function returns; if it raises, a sentence with the line of its cell."""
    if not callable(function):
        raise NotYet(f"a function is wanted here, not {article(function)}.")
    arguments = [
        a.copy() if isinstance(a, np.ndarray) else a for a in arguments
    ]  # whatever it does to them
    try:
        result = function(*arguments)
    except Exception as error:
        lines = [
            f.lineno
            for f in traceback.extract_tb(error.__traceback__)
            if _of_a_notebook(f.filename)
        ]
        where = f" in line {lines[-1]} of its cell" if lines else ""
        raise NotYet(f"your code stopped{where} ({said(error)}).") from None
    if result is ...:
        raise Unanswered
    if result is None:
        raise NotYet("your function gives back nothing: is its return missing?")
    return result


def _of_a_notebook(filename):
    return "ipykernel" in filename or "ipython-input" in filename


def article(value):
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def array(value, what="the answer", wanted="numbers"):
    """Anything that holds numbers as float64, or a sentence."""
    if value is ...:
        raise Unanswered
    try:
        found = np.asarray(value)
        text = found.dtype.kind in "US"
        found = found if text else found.astype("float64")
    except Exception:
        raise NotYet(
            f"{what} should be numbers in an even grid, not {article(value)} of something else."
        ) from None
    if text:
        raise NotYet(f"{what} should be {wanted}, without quotes or commas.")
    if not np.isfinite(found).all():
        raise NotYet(
            f"{what} contains nan or infinity: look for a logarithm of 0, or a division by 0."
        )
    return found


def number(value, what="the answer"):
    found = array(value, what, "one number")
    if found.size != 1:
        raise NotYet(f"{what} should be one number, and has shape {found.shape}.")
    return float(found.reshape(()))


def shaped(value, shape, what="the result"):
    """`array(value)` in this shape; a trailing axis of length 1 more or less does not matter."""
    found = array(value, what)
    if found.shape != shape and found.shape not in (shape + (1,), (1,) + shape):
        raise NotYet(f"{what} should have the shape {shape}, and has {found.shape}.")
    return found.reshape(shape)


def close(a, b, rtol=1e-3, atol=1e-4):
    return bool(np.allclose(a, b, rtol=rtol, atol=atol))


def predicted(guess, truth, unit=""):
    """A remark on a prediction, which is never judged."""
    short = lambda v: f"{v:,.0f}" if v >= 1000 else f"{v:.4g}"  # noqa: E731
    try:
        guess = short(number(guess))
    except NotYet:
        return f"it is {short(truth)}{unit}; your prediction is not one number."
    return f"you predicted {guess}{unit}, it is {short(truth)}{unit}."


def too(value, right):
    return "too large" if value > right else "too small"


@functools.cache
def sample():
    """2,000 training images (2000, 784) and labels of the sample that comes with the course."""
    images, labels, *_ = load_sample()
    return images[:2000], labels[:2000]


@functools.cache
def reference():
    """The encoder and decoder of the course's own full run."""
    return [
        vh.load(course.REFERENCE / f"{name}.keras")
        for name in ("vae_encoder", "vae_decoder")
    ]


@functools.cache
def glass_decoder(latent_dim=10):
    """A decoder that shows its code: the first pixels are the code itself, the others 0."""
    decoder = keras.Sequential(
        [keras.Input((latent_dim,)), layers.Dense(784, use_bias=False)]
    )
    decoder.set_weights([np.eye(latent_dim, 784, dtype="float32")])
    return decoder


def codes_behind(images, n):
    """The codes (n, 10) from which `glass_decoder` made these images."""
    images = shaped(images, (n, 784), "the result")
    if not close(images[:, 10:], 0):
        raise NotYet(
            "these images were not made by the decoder that your function is given."
        )
    return images[:, :10]


def clouds(n=400, latent_dim=10, seed=0):
    """Means and log-variances (n, latent_dim), float32, none of them typical of a prior."""
    rng = np.random.default_rng(seed)
    size = (n, latent_dim)
    return rng.normal(0.3, 1.2, size).astype("float32"), rng.uniform(
        -2.5, 1.0, size
    ).astype("float32")


def small_vae(encoder=None):
    """A VAE of one layer each way, or with another encoder: enough to see whether training runs."""
    image = keras.Input((784,))
    encoder = encoder or keras.Model(
        image, [layers.Dense(10)(image), layers.Dense(10)(image)]
    )
    return vh.VAE(
        encoder,
        keras.Sequential([keras.Input((10,)), layers.Dense(784, activation="sigmoid")]),
    )


def train_briefly(model, x, y):
    """Two tiny epochs on the sample; a sentence if the loss is not finite or does not fall."""
    keras.utils.set_random_seed(0)
    try:
        model.compile(
            optimizer="adam", run_eagerly=True
        )  # no compiling: the whole takes a second or two
        loss = model.fit(x, y, batch_size=128, epochs=2, verbose=0).history["loss"]
    except (NotYet, Unanswered):
        raise
    except Exception as error:
        raise NotYet(f"training it stopped ({said(error)}).") from None
    if not np.isfinite(loss).all():
        raise NotYet(
            "its loss is not finite: look for an output that can grow without limit, or a logarithm of 0."
        )
    if loss[1] >= loss[0]:
        raise NotYet(
            "its loss does not fall in two short epochs: does every part take part in the loss?"
        )


# ---------------------------------------------------------------- warm-up


@check
def grey_card(prediction, answer):
    value, right = number(answer), vh.pixel_entropy(np.full((1, 784), 0.5))
    if close(value, right / 784, 5e-3):
        raise NotYet("that is what one pixel costs. How many has an image?")
    if close(value, right / np.log(2), 2e-3):
        raise NotYet(
            "that is in bits. The course counts in nats, with the natural logarithm."
        )
    if close(value, 0):
        raise NotYet(
            "0 would be the floor if grey pixels were free. Look at the curves of chapter 01 once more."
        )
    if not close(value, right, 2e-3):
        raise NotYet(
            f"{too(value, right)}. What does BCE charge for one such pixel, predicted exactly?"
        )
    return predicted(prediction, right, " nats")


@check
def parameters(prediction, answer):
    network = keras.Sequential(
        [keras.Input((784,)), *[layers.Dense(units) for units in (100, 10, 100, 784)]]
    )
    weights, value, right = (
        [w.shape for w in network.weights],
        number(answer),
        network.count_params(),
    )
    if value == sum(np.prod(shape) for shape in weights if len(shape) == 2):
        raise NotYet(
            "these are the matrices. A layer adds something after its matrix product."
        )
    if value == sum(np.prod(shape) for shape in weights[:4]):
        raise NotYet("that is half of the network: the image has to be restored, too.")
    if value != right:
        raise NotYet(
            f"{too(value, right)}. Chapter 02 counts a network layer by layer."
        )
    return predicted(prediction, right)


@check
def cloud_price(prediction, answer):
    mean, sigma = np.array([2.0, 0.0]), np.array([1.0, 0.5])
    kl = lambda log_var: np.asarray(vh.kl_to_prior(mean, log_var), "float64")  # noqa: E731
    value, each = number(answer), kl(2 * np.log(sigma))
    right = each.sum()
    if value < 0:
        raise NotYet("a KL is never negative. Check the signs in the closed form.")
    if close(value, right / 2, 5e-3):
        raise NotYet(
            "that is the average over the two dimensions. What do prices of independent dimensions do?"
        )
    if close(value, right / np.log(2), 5e-3):
        raise NotYet("that is in bits; the course counts in nats.")
    if close(value, kl(np.log(sigma)).sum(), 5e-3) or close(
        value, kl(4 * np.log(sigma)).sum(), 5e-3
    ):
        raise NotYet(
            "the mean is paid for rightly, the width is not. Standard deviation or variance?"
        )
    if any(close(value, price, 5e-3) for price in each):
        raise NotYet("that is the price of one of the two dimensions.")
    if not close(value, right, 5e-3):
        raise NotYet(
            f"{too(value, right)}. Take the two dimensions one by one in the closed form of chapter 03."
        )
    return predicted(prediction, right, " nats")


@check
def which_beta(answer):
    losses = [  # r: BCE summed over the pixels, k: KL summed over the dimensions
        lambda r, k: 500 * (r / 1024) + k,
        lambda r, k: 784 * (r / 784 + k),
        lambda r, k: r + k / 20,
    ]
    for place, value, loss in zip(
        ("first", "second", "third"), shaped(answer, (3,), "the answer"), losses
    ):
        right = (loss(0, 1) - loss(0, 0)) / (loss(1, 0) - loss(0, 0))
        if close(value * right, 1, 5e-3):
            raise NotYet(
                f"the {place} is upside down: beta says how dear KL is, measured in nats of reconstruction."
            )
        if not close(value, right, 5e-3):
            raise NotYet(
                f"the {place} is {too(value, right)}. By how much does that loss rise with one more nat of KL, "
                "and by how much with one more nat of BCE, summed over the pixels?"
            )


@check
def inside_ball(prediction, answer):
    value = number(answer)
    right = chi2(10).cdf(1.0)
    if value == 0:
        raise NotYet(
            "none of your draws fell inside. It does happen, but rarely: draw many more."
        )
    if close(value, 0.6827, 0.02):
        raise NotYet(
            "that is right on a line. How many dimensions has a code of chapter 04?"
        )
    if close(value, 0.6827**10, 0.08):
        raise NotYet("that is a cube: every coordinate below 1. How long is the code?")
    if close(value, 100 * right, 0.5):
        raise NotYet("is that in percent? A share is between 0 and 1.")
    if not 0.3 * right < value < 2 * right:
        raise NotYet(
            f"{too(value, right)}. The length of a code takes all of its numbers together."
        )
    return predicted(prediction, right)


# ---------------------------------------------------------------- build


@check
def dead_units(count):
    rng, tables = np.random.default_rng(0), []
    for dead in ([3, 7, 11, 16], [0]):
        codes = rng.normal(size=(300, 18)).clip(0).astype("float32")
        codes[5] = 0  # an image without any unit is no dead unit
        codes[:, 9], codes[7, 9] = (
            0,
            0.001,
        )  # nor is a unit that speaks once, and softly
        codes[:, dead] = 0
        tables.append(codes)
    found = [number(call(count, codes), "the count") for codes in tables]

    def gives(rule):
        return close(found, [rule(codes == 0) for codes in tables])

    if gives(lambda zero: zero.all(axis=0).sum()):
        return
    if gives(lambda zero: (~zero).any(axis=0).sum()):
        raise NotYet("you count the living ones.")
    if gives(lambda zero: zero.all(axis=0).mean()):
        raise NotYet("that is a share. How many are they?")
    if gives(lambda zero: zero.any(axis=0).sum()):
        raise NotYet(
            "a unit that is zero for some images is not dead. ReLU does that all the time."
        )
    if gives(lambda zero: zero.all(axis=1).sum()) or gives(
        lambda zero: zero.any(axis=1).sum()
    ):
        raise NotYet("you count images, it seems. Along which axis do the units lie?")
    if gives(lambda zero: zero.sum()):
        raise NotYet("you count single zeros in the table, not units.")
    if gives(lambda zero: zero[0].sum()):
        raise NotYet("you look at the first image only.")
    raise NotYet(
        f"tables with 4 dead units and 1 gave {found[0]:g} and {found[1]:g}. Some units speak rarely or softly."
    )


@check
def draw(function):
    z_mean, z_log_var = clouds()
    noise = np.random.default_rng(1).normal(size=z_mean.shape).astype("float32")
    value = shaped(call(function, z_mean, z_log_var, noise), z_mean.shape, "z")
    still = array(call(function, z_mean, z_log_var, np.zeros_like(noise)))
    if not close(still, z_mean):
        raise NotYet("with noise 0 you should be exactly at the mean, and are not.")
    if close(value, z_mean):
        raise NotYet("the noise is not used.")
    sigma = sigma_of(z_log_var)
    used, stretch = (
        (value - z_mean) / sigma,
        (value - z_mean) / noise,
    )  # noise that was used, if sigma is right
    if close(used, used[:1], atol=1e-3) or close(used, used[:, :1], atol=1e-3):
        raise NotYet(
            "every number of every code has noise of its own, and in yours many share the same."
        )
    if close(stretch, 1, 1e-2):
        raise NotYet(
            "the noise arrives as it is. A wide cloud and a narrow one should differ."
        )
    if (stretch < 0).any():
        raise NotYet(
            "the noise is multiplied by something negative for some clouds. A width is never negative."
        )
    if not close(value, z_mean + sigma * noise, atol=1e-3):
        hint = (
            " It is a variance that you stretch by."
            if close(value, z_mean + sigma**2 * noise, atol=1e-2)
            else ""
        )
        raise NotYet(f"the mean is right, the width of the cloud is not.{hint}")
    mean, log_var = tf.Variable(z_mean), tf.Variable(z_log_var)
    with tf.GradientTape() as tape:
        z = function(mean, log_var, noise)
    if not tf.is_tensor(z) or any(
        slope is None for slope in tape.gradient(z, [mean, log_var])
    ):
        return "by hand. Inside a model, write it with keras.ops, so that gradients reach mean and log-variance."


def sigma_of(z_log_var):
    """Standard deviations, from the helper's own layer: its draws beside those of clouds of width 1, same noise."""
    flat = np.zeros_like(z_log_var)
    wide, unit = (
        np.asarray(vh.Sampling(seed=3)([flat, log_var]))
        for log_var in (z_log_var, flat)
    )
    return wide / unit


@check
def kl(function):
    z_mean, z_log_var = clouds(5)
    each = np.asarray(vh.kl_to_prior(z_mean, z_log_var), "float64")  # (5, 10)
    found = array(call(function, z_mean, z_log_var), "the KL")
    if found.shape == each.shape:
        raise NotYet(
            "one price for each dimension of each image came back. What is the price of an image?"
        )
    if found.size == 1 and (
        close(found, each.sum())
        or close(found, each.sum(axis=1).mean())
        or close(found, each.mean())
    ):
        raise NotYet(
            "one number for the whole batch came back. Every image pays for itself: five images, five prices."
        )
    if found.shape == (10,):
        raise NotYet(
            "ten numbers for five images: that is a price for each dimension. Along which axis do they lie?"
        )
    found, right = shaped(found, (5,), "the KL"), each.sum(axis=1)
    if close(found, each.mean(axis=1)):
        raise NotYet(
            "it is ten times too small, for ten dimensions. What do the prices of dimensions do?"
        )
    if close(found, 2 * right):
        raise NotYet("it is twice too large, for every image.")
    if close(found, -right):
        raise NotYet("the sign is wrong: a KL is never negative.")
    if not close(call(function, z_mean[:1] * 0, z_log_var[:1] * 0), 0):
        raise NotYet(
            "a cloud that equals the prior should cost nothing, and yours costs something."
        )
    if not close(found, right):
        moved = array(call(function, z_mean, 0 * z_log_var)).ravel()
        part = (
            "the width"
            if close(moved, 0.5 * np.square(z_mean).sum(axis=1))
            else "the mean"
        )
        raise NotYet(
            f"the prior costs nothing, as it should, but {part} of a cloud is not paid for rightly."
        )


@check
def traverse(function):
    for dimension, values in (
        (7, np.linspace(-3, 3, 11)),
        (0, np.array([-1.0, 0.5, 2.0])),
    ):
        images = array(
            call(function, glass_decoder(), dimension, values.astype("float32")),
            "the result",
        )
        if images.shape == (len(values), 10):
            raise NotYet("codes came back. Are they decoded?")
        codes = codes_behind(images, len(values))
        others = np.delete(codes, dimension, axis=1)
        if close(codes, 0):
            raise NotYet("nothing moves: all codes are at the origin.")
        if close(codes, np.repeat(values[:, None], 10, axis=1)):
            raise NotYet("all dimensions turn at once.")
        if not close(others, 0):
            raise NotYet("the dimensions that should rest at 0 do not all rest there.")
        if close(codes[::-1, dimension], values) and not close(values[::-1], values):
            raise NotYet(
                "it runs backwards: the first picture should belong to the first value."
            )
        if not close(codes[:, dimension], values):
            raise NotYet(
                "the dimension that was asked for does not take the values that were asked for."
            )


@check
def slerp(function):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 10)).astype("float32")
    t = np.linspace(0, 1, 9, dtype="float32")
    walk = shaped(call(function, a, b, t), (9, 10), "the walk")
    if close(walk[[0, -1]], [b, a]):
        raise NotYet("it runs backwards: t = 0 should give the first code.")
    if close(walk, a + t[:, None] * (b - a)):
        raise NotYet(
            "that is the straight line. It cuts through the middle; look at the lengths of the codes on the way."
        )
    if not close(walk[[0, -1]], [a, b], atol=1e-3):
        raise NotYet("it does not begin at the first code and end at the second.")
    a = (
        a * np.linalg.norm(b) / np.linalg.norm(a)
    )  # equal lengths: now it must be an arc of a circle
    walk = shaped(call(function, a, b, t), (9, 10), "the walk")
    lengths, steps = (
        np.linalg.norm(walk, axis=1),
        np.linalg.norm(np.diff(walk, axis=0), axis=1),
    )
    if not close(lengths, lengths[0], 1e-2):
        raise NotYet(
            "between two codes of equal length the length should not change, and yours does."
        )
    if not close(steps, steps[0], 1e-2):
        raise NotYet(
            "the lengths are right, but equal steps of t are not equal steps on the arc."
        )
    failed = 0
    for i, a in enumerate(rng.normal(size=(200, 10)).astype("float32")):
        a = a.astype("float64") if i % 2 else a
        b = a * (i % 4 // 2 + 1)  # the same code, or twice the code
        try:
            walk = shaped(call(function, a, b, t.astype(a.dtype)), (9, 10), "the walk")
        except NotYet:
            failed += 1
            continue
        if not close(walk, a + t[:, None] * (b - a), 1e-2, 1e-3):
            raise NotYet(
                "between two codes of the same direction it should be a straight line, and is not."
            )
    if failed:
        raise NotYet(
            f"between two codes of the same direction it fails, for {failed} of 200 pairs. How large is the angle "
            "there, and what does rounding do to its cosine?"
        )


@check
def draw_like(function):
    rng = np.random.default_rng(0)
    mixing = np.array(
        [[3.0, 0, 0, 0], [2.5, 1.0, 0, 0], [0, 0, 0.5, 0], [-1.0, 0, 0, 2.0]]
    )
    codes = (rng.normal(size=(5_000, 4)) @ mixing.T + [4, -2, 0, 1]).astype("float32")
    drawn = shaped(call(function, codes, 20_000), (20_000, 4), "the result")
    cov, found = np.cov(codes, rowvar=False), np.cov(drawn, rowvar=False)
    if np.isin(drawn[:100, 0].astype("float32"), codes[:, 0]).mean() > 0.5:
        raise NotYet("these are the codes that you were given, not new ones.")
    if np.abs(drawn.mean(axis=0) - codes.mean(axis=0)).max() > 0.2:
        raise NotYet("the draws lie around another centre than the codes.")
    if not close(np.diag(found), np.diag(cov), 0.1):
        if close(np.diag(found), np.diag(cov) ** 2, 0.15) or close(
            np.diag(found), np.diag(cov @ cov), 0.15
        ):
            raise NotYet(
                "the spread is off: a variance is used where its root is wanted, perhaps."
            )
        raise NotYet(
            "the draws are not spread as the codes are, dimension by dimension."
        )
    if not close(found, cov, 0.1, 0.2):
        raise NotYet(
            "each dimension by itself is right, but in the codes some grow together, and in your draws they do not. "
            "Chapter 02 failed in this way."
        )


# ---------------------------------------------------------------- find the bug


def terms(loss, pixels, latent_dim):
    """What a nat of reconstruction and a nat of KL each add to the student's loss."""
    rng = np.random.default_rng(0)
    x, x_hat = (
        rng.random((8, pixels)).astype("float32"),
        rng.uniform(0.1, 0.9, (8, pixels)).astype("float32"),
    )
    z_mean, z_log_var = clouds(8, latent_dim)
    nothing = np.zeros_like(z_mean)
    r = float(np.mean(vh.bernoulli_nll(x, x_hat)))
    k = float(np.asarray(vh.kl_to_prior(z_mean, z_log_var)).sum(axis=1).mean())
    alone, both = (
        array(call(loss, x, x_hat, *cloud), "the loss")
        for cloud in ((nothing, nothing), (z_mean, z_log_var))
    )
    if both.size == 8:
        raise NotYet(
            "one loss for each image came back. Training wants one number, the average over the batch."
        )
    alone, both = number(alone, "the loss"), number(both, "the loss")
    if close(alone, 8 * r) or close(both, 8 * (r + k)):
        raise NotYet("it grows with the number of images in the batch.")
    return alone / r, (both - alone) / k


def judge_terms(loss, cases):
    for i, (pixels, latent_dim) in enumerate(cases):
        about = f"On {pixels} pixels and {latent_dim} latent dimensions, one nat of"
        by_r, by_k = terms(loss, pixels, latent_dim)
        if not close([by_r, by_k], 1, 2e-3):
            if i:
                raise NotYet(
                    f"right for the first shape tried, not for another. {about} reconstruction adds {by_r:.4g} to the "
                    f"loss and one nat of KL {by_k:.4g}. Is there a number in it that belongs to one model only?"
                )
            if close(by_k / by_r, 1, 2e-3):
                raise NotYet(
                    f"the balance is right, the scale is not: a nat of either adds {by_r:.4g} to the loss."
                )
            raise NotYet(
                f"something is wrong. {about} reconstruction adds {by_r:.4g} to the loss, one nat of KL {by_k:.4g}."
            )


@check
def loss(function):
    judge_terms(function, [(784, 10), (784, 4)])


@check
def any_size(function):
    judge_terms(function, [(1024, 10), (784, 10)])


@check
def shake(layer):
    layer = call(layer) if isinstance(layer, type) else layer
    z_mean, z_log_var = (tf.constant(part) for part in clouds(2_000))
    sigma = sigma_of(np.asarray(z_log_var))
    noise = [
        (shaped(call(layer, [z_mean, z_log_var]), (2_000, 10), "the result") - z_mean)
        / sigma
        for _ in range(3)
    ]
    if close(noise[0], 0):
        raise NotYet("no noise at all.")
    if close(noise[0], noise[1]):
        raise NotYet(
            "something is wrong: called twice with the same clouds, it gives the same codes."
        )
    if close(noise[0][0], noise[0][1]) or close(noise[0], noise[0][:1]):
        raise NotYet("fresh at every call, but all images of a batch are shaken alike.")
    if np.abs(np.corrcoef(noise[0], rowvar=False) - np.eye(10)).max() > 0.2:
        raise NotYet(
            "every image has noise of its own, but the ten numbers of its code are shaken together."
        )
    if (
        np.abs(np.std(noise[0], axis=0) - 1).max() > 0.1
        or np.abs(np.mean(noise[0], axis=0)).max() > 0.15
    ):
        raise NotYet(
            "the noise is fresh, but the draws do not have the mean and the width of their clouds."
        )
    compiled = call(
        tf.function(lambda: layer([z_mean, z_log_var])).get_concrete_function
    )
    if close(*(array(call(compiled)) for _ in range(2))):
        raise NotYet(
            "fresh when you call it, but not in training: Keras compiles the step, and runs what is not Keras or "
            "TensorFlow once only, while compiling."
        )


@check
def validation(model):
    x = sample()[0][:200]
    vae = call(model, *reference())

    def scored(vae, training):
        x_hat = call(functools.partial(vae, training=training), x)
        array(x_hat, "the reconstruction")
        return float(np.mean(vh.bernoulli_nll(x, x_hat))), float(
            vae.compute_loss(x, x, x_hat)
        )

    right = np.array(
        [scored(vh.VAE(*reference(), seed=seed), False) for seed in range(4)]
    )
    for training in (True, False):
        found = np.array([scored(vae, training) for _ in range(4)])
        when = "in training" if training else "in validation"
        if np.ptp(found[:, 0]) == 0:
            raise NotYet(
                f"something is wrong: {when}, the same images give the same reconstruction every time."
            )
        if not close(found[:, 0].mean(), right[:, 0].mean(), atol=1.0):
            raise NotYet(
                f"{when} the codes are shaken, but not as their clouds say: compare with chapter 03's VAE."
            )
        if not close(found[:, 1] - found[:, 0], right[:, 1] - right[:, 0], 1e-2):
            raise NotYet(f"{when} the reconstruction is right, but the KL term is not.")


@check
def new_garments(function):
    n = 2_000
    image, show = keras.Input((784,)), layers.Dense(10, use_bias=False)
    encoder = keras.Model(image, [show(image), show(image)])
    show.set_weights([np.eye(784, 10, dtype="float32")])
    codes = []
    for level in (
        0.0,
        3.0,
    ):  # images whose codes have mean 0 or 3, and log-variance 0 or 3
        images = np.full((n, 784), level, "float32")
        codes.append(
            codes_behind(call(function, encoder, glass_decoder(), images, n), n)
        )
    if np.abs(codes[0].mean() - codes[1].mean()) > 0.2 or not close(
        codes[0].std(), codes[1].std(), 0.1
    ):
        raise NotYet(
            'something is wrong: other images go in, and other "new" ones come out. Where do the codes come from?'
        )
    for code in codes:
        if np.ptp(code, axis=0).max() < 1e-3:
            raise NotYet("all of them are the same garment.")
        if np.abs(code.mean(axis=0)).max() > 0.15:
            raise NotYet(
                "no image is needed any more, but the codes do not lie around the prior's centre."
            )
        if np.abs(code.std(axis=0) - 1).max() > 0.1:
            raise NotYet(
                "no image is needed any more, but the codes are not spread like the prior's."
            )
        if np.abs(np.corrcoef(code, rowvar=False) - np.eye(10)).max() > 0.2:
            raise NotYet(
                "the ten numbers of a code depend on each other, and the prior's do not."
            )
        if np.mean(np.abs(code) < 1) < 0.66 or np.mean(np.abs(code) < 1) > 0.71:
            raise NotYet(
                "centre and spread are the prior's, the shape is not: the prior is normal."
            )


@check
def pairs(function):
    for seed in range(3):
        labels = np.random.default_rng(seed).integers(0, 10, 3_000)
        found = shaped(call(function, labels, 200), (200, 2), "the result")
        if (
            found.min() < 0
            or found.max() >= len(labels)
            or not close(found, found.round())
        ):
            raise NotYet("these are no indices of images.")
        if found.max() < 10:
            raise NotYet(
                "these are classes, it seems. Which images do the walks begin and end with?"
            )
        a, b = labels[found.astype(int)].T
        if (a == b).mean() > 0.5:
            raise NotYet(
                "something is wrong: look at the classes at the two ends of each walk."
            )
        if (a == b).any():
            raise NotYet(
                f"better, but {np.sum(a == b)} of 200 walks still begin and end in the same class."
            )
        if len(set(a) | set(b)) < 10:
            raise NotYet(
                "the two ends differ, but some classes are never walked to or from."
            )
        if len({(min(pair), max(pair)) for pair in zip(a, b)}) < 30:
            raise NotYet(
                "the two ends differ, but nearly all walks are between the same few classes."
            )
        if len(np.unique(found, axis=0)) < 150:
            raise NotYet(
                "the two ends differ, but the same pairs come again and again."
            )


@check
def log_density(function):
    mean, log_var = 0.7, -1.2
    z = np.linspace(-6, 8, 14_001)[:, None]  # (14001, 1)
    flat = np.ones_like(z)
    found = shaped(
        call(function, z, mean * flat, log_var * flat), (14_001,), "the result"
    )
    if found.min() >= 0:
        raise NotYet(
            "far from the mean it should be very negative, and never is. Is that the density, not its logarithm?"
        )
    density = np.exp(found)
    area = density.sum() * 0.001
    if close(area, np.sqrt(2 * np.pi), 1e-2):
        raise NotYet(
            "the bell has the wrong area: a constant is missing, the same for all z."
        )
    centre = (z[:, 0] * density).sum() / density.sum()
    spread = ((z[:, 0] - centre) ** 2 * density).sum() / density.sum()
    if not close(centre, mean, 1e-2):
        raise NotYet("the bell does not stand over its mean.")
    if not close(spread, np.exp(log_var), 1e-2):
        raise NotYet(
            f"something is wrong with the width. The log-variance was {log_var}, the variance of your bell has the "
            f"logarithm {np.log(spread):.2f}."
        )
    if not close(area, 1, 1e-2):
        raise NotYet(
            f"the width is right, but the bell's area is {area:.3g} and should be 1."
        )
    z, (z_mean, z_log_var) = (
        np.ones((5, 3)),
        (part.astype("float64") for part in clouds(5, 3)),
    )
    whole = shaped(call(function, z, z_mean, z_log_var), (5,), "the result")
    parts = [
        array(
            call(function, *(part[:, [d]] for part in (z, z_mean, z_log_var)))
        ).ravel()
        for d in range(3)
    ]
    if not close(whole, np.sum(parts, axis=0)):
        raise NotYet(
            "one dimension is right, three are not. What do the log-densities of independent numbers do?"
        )


# ---------------------------------------------------------------- stretch


@check
def other_data(load):
    names = ("the training images", "the validation images", "the test images")
    sets, found = [], call(load)
    if not isinstance(found, (list, tuple)) or len(found) != 3:
        raise NotYet("three arrays are wanted: training, validation and test images.")
    for name, images in zip(names, found):
        if str(getattr(images, "dtype", "")).find("float32") < 0:
            raise NotYet(
                f"{name} should be float32, like the course's, and are {getattr(images, 'dtype', article(images))}."
            )
        values = array(images, name)
        if values.ndim != 2 or values.shape[1] != 784:
            raise NotYet(
                f"{name} should be rows of 784 pixels, and have the shape {values.shape}."
            )
        if values.min() < 0 or values.max() > 1:
            raise NotYet(
                f"{name} run from {values.min():g} to {values.max():g}, and pixels here run from 0 to 1."
            )
        if values.max() < 0.5 or np.ptp(values, axis=0).max() == 0:
            raise NotYet(f"{name} hardly differ from black, or from each other.")
        sets.append(values.astype("float32"))
    keys = [{row.tobytes() for row in values} for values in sets]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        if len(keys[i] & keys[j]) > 0.02 * len(keys[j]):
            raise NotYet(
                f"{names[i]} and {names[j]} share pictures, so one says nothing about the other."
            )
    if keys[0] & {row.tobytes() for row in sample()[0]}:
        raise NotYet("this is Fashion-MNIST. Any other data set will do.")
    train_briefly(small_vae(), sets[0][:512], sets[0][:512])
    return f"the floor of the test images is {vh.pixel_entropy(sets[2]):.1f} nats."


@check
def convolutional(build):
    keras.utils.set_random_seed(0)
    encoder = call(build)
    if not isinstance(encoder, keras.Model):
        raise NotYet(f"a Keras model is wanted, not {article(encoder)}.")
    if not any("Conv2D" in type(layer).__name__ for layer in all_layers(encoder)):
        raise NotYet("there is no two-dimensional convolution in it.")
    x = sample()[0]
    found = call(encoder, x[:200])
    if not isinstance(found, (list, tuple)) or len(found) != 2:
        raise NotYet("two outputs are wanted: the mean and the log-variance.")
    for name, output in zip(("z_mean", "z_log_var"), found):
        if shaped(output, (200, 10), name).min() >= 0:
            raise NotYet(
                f"{name} is never negative. What is the last layer's activation?"
            )
    if np.allclose(found[0], found[1]):
        raise NotYet(
            "mean and log-variance are the same numbers: each wants weights of its own."
        )
    if encoder.count_params() > vh.build_encoder().count_params() / 4:
        raise NotYet(
            f"{encoder.count_params():,} parameters: more than a quarter of the dense encoder's. "
            "Where do most of them sit? Shrink the picture before that layer."
        )
    train_briefly(small_vae(encoder), x[:512], x[:512])


def all_layers(model):
    for layer in model.layers:
        yield layer
        yield from all_layers(layer) if hasattr(layer, "layers") else ()


@check
def conditional(build):
    x, y = (part[:512] for part in sample())
    one_hot = np.eye(10, dtype="float32")
    keras.utils.set_random_seed(0)
    model = call(build)
    for name in ("encoder", "decoder"):
        if not isinstance(getattr(model, name, None), keras.Model):
            raise NotYet(f"the model has no {name} that is a Keras model.")
    if len(model.decoder.inputs) != 2:
        raise NotYet("the decoder should have two inputs, a code and a label.")
    z = (
        np.random.default_rng(0)
        .normal(size=(50, model.decoder.inputs[0].shape[1]))
        .astype("float32")
    )
    made = [
        call(model.decoder, [z, np.tile(one_hot[c], (50, 1))]) for c in range(10)
    ]  # each class, the same codes
    made = np.stack(
        [shaped(garments, (50, 784), "the decoder's output") for garments in made]
    )
    if made.min() < 0 or made.max() > 1:
        raise NotYet("the decoder's pixels leave [0, 1].")
    if np.ptp(made, axis=0).max() < 1e-6:
        raise NotYet(
            "the decoder gives the same garment whatever class is asked for. Follow the label on its way."
        )
    if np.ptp(made, axis=1).max() < 1e-6:
        raise NotYet(
            "the decoder gives the same garment for every code. Follow the code on its way."
        )
    prices = []
    for classes in (y, (y + 1) % 10):
        call(model, [x, one_hot[classes]])
        prices.append(array(getattr(model, "_kl", ()), "self._kl"))
        if prices[-1].shape != (512,):
            raise NotYet(
                f"`self._kl` wants one number per image: of 512 images it has the shape {prices[-1].shape}."
            )
    if close(*prices, 0, 1e-6):
        raise NotYet(
            "the encoder gives the same cloud whatever class the image has. It should be told the class, too."
        )
    train_briefly(model, [x, one_hot[y]], x)
    return "the class asked for changes the garment. Train it on all the data and look."


@check
def schedule(callback):
    epochs, seen = 8, []
    vae = vh.VAE(vh.build_encoder(), vh.build_decoder())
    weight = vae.kl_weight  # the variable that a compiled step has in its hands
    made = call(callback, vae, epochs)
    if not isinstance(made, keras.callbacks.Callback):
        raise NotYet(f"a Keras callback is wanted, not {article(made)}.")
    made.set_model(vae)
    for epoch in range(epochs + 4):
        made.on_epoch_begin(epoch)
        seen.append(float(np.asarray(weight)))
    seen, t = np.array(seen), np.minimum(np.arange(epochs + 4) / epochs, 1)
    if vae.kl_weight is not weight:
        raise NotYet(
            "kl_weight was replaced by another object. A compiled step keeps the old one: change its value."
        )
    if close(seen, seen[0]):
        raise NotYet(
            "the weight never changes. Does the callback act when an epoch begins?"
        )
    if close(seen, t, atol=1e-3):
        raise NotYet("that is chapter 05's straight line.")
    if not close(seen[0], 0):
        raise NotYet(
            f"in the first epoch the weight should be 0, and is {seen[0]:.3g}."
        )
    if not close(seen[epochs:], 1):
        raise NotYet(
            f"after {epochs} epochs the weight should be 1 and stay there, and it goes {seen[epochs:].round(3)}."
        )
    if (np.diff(seen) < -1e-6).any():
        raise NotYet("the weight falls on its way up.")
    falling = keras.optimizers.schedules.CosineDecay(1.0, epochs)
    if not close(
        seen, [1 - float(falling(epoch)) for epoch in range(epochs + 4)], atol=1e-3
    ):
        raise NotYet(
            f"it rises from 0 to 1, but not along half a cosine: halfway it is {seen[epochs // 2]:.3g}."
        )
