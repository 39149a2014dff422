"""The checks of exercises.ipynb.

`exercises.NAME(answer)` prints "right", "not yet: ..." or "not answered yet". A check
runs the answer on inputs of its own and compares values, spreads and dependences with
what the chapters and `vae_helpers` promise. How the answer is written does not matter:
NumPy, keras.ops or TensorFlow; arrays, lists or single numbers; (n,) or (n, 1).
Where a bug has to be found, the first verdict gives no hint.
"""

import functools
import re
import traceback

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from scipy.special import logsumexp
from scipy.stats import chi2

import course
from course import evaluation
from course.data import load_sample

VERDICTS = {}  # name of a check -> its last verdict


class WrongAnswer(Exception):
    """What is wrong with an answer, in a sentence."""


class MissingAnswer(Exception):
    """The placeholder still stands where the answer belongs."""


FIRST_VERDICT = (
    "not yet: the program does not do what it should; look for the mistake, and run "
    "this cell again for a hint."
)


def check(function, hint_at_once=True):
    """Make a check, which prints its verdict, of a function that raises the above.

    Without `hint_at_once`, the first verdict on a wrong answer is FIRST_VERDICT.
    """
    name = function.__name__
    VERDICTS[name] = "not answered yet"

    @functools.wraps(function)
    def judge(*answers):
        verdict = find_verdict(function, answers)
        was_wrong = VERDICTS[name].startswith("not yet")
        if verdict.startswith("not yet") and not (hint_at_once or was_wrong):
            verdict = FIRST_VERDICT
        VERDICTS[name] = verdict
        print(verdict)

    return judge


find_the_bug = functools.partial(check, hint_at_once=False)


def find_verdict(function, answers):
    """The verdict of a check's function on these answers."""
    try:
        missing = [answer is None or answer is ... for answer in answers]
        if missing[-1]:
            raise MissingAnswer
        if any(missing):
            raise MissingAnswer("the prediction is missing.")
        remark = function(*answers)
    except MissingAnswer as reason:
        return f"not answered yet: {reason}" if str(reason) else "not answered yet"
    except WrongAnswer as problem:
        return f"not yet: {problem}"
    except Exception as error:  # the student's code may fail wherever it is used
        return f"not yet: your answer could not be used ({describe_error(error)})."
    return f"right: {remark}" if remark else "right"


def summary():
    """Print one line for each check, and the number of checks that are right."""
    for name, verdict in VERDICTS.items():
        print(f"{name:<18} {verdict.split(':')[0]}")
    count = sum(verdict.startswith("right") for verdict in VERDICTS.values())
    print(f"right: {count} of {len(VERDICTS)}")


# ---------------------------------------------------------------- reading answers


def describe_error(error):
    """An exception in one line: its class and its first sentence.

    The sentence is the one that Keras sets in bold, if any, without control codes.
    """
    bold = re.search(r"\x1b\[1m(.+?)\x1b\[0m", str(error), re.S)
    text = bold[1] if bold else str(error)
    text = " ".join(re.sub(r"\x1b\[\d*m|\{\{.*?\}\}|\[Op:.*", "", text).split())
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z])", text)[0].rstrip(".")
    if not sentence:
        return repr(error)
    dots = "..." if len(sentence) > 240 else ""
    return f"{type(error).__name__}: {sentence[:240]}{dots}"


def describe_type(value):
    """The name of a value's type, with its article: "an int"."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def is_notebook_cell(filename):
    """Whether a traceback's file name is that of a cell."""
    return "ipykernel" in filename or "ipython-input" in filename


def call(function, *arguments):
    """What the student's function returns.

    Raises:
        WrongAnswer: it raises, in a sentence with the line of its cell.
    """
    if not callable(function):
        raise WrongAnswer(
            f"the answer should be a function, not {describe_type(function)}."
        )
    # Copies, because the function may change its arguments.
    arguments = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    try:
        result = function(*arguments)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if is_notebook_cell(frame.filename)]
        where = f" in line {lines[-1]} of its cell" if lines else ""
        raise WrongAnswer(
            f"your code raised an error{where} ({describe_error(error)})."
        ) from None
    if result is ...:
        raise MissingAnswer
    if result is None:
        raise WrongAnswer("your function returns nothing: is its return missing?")
    return result


def require_array(value, what="the answer", wanted="numbers"):
    """Anything that holds numbers, as a float64 array.

    Raises:
        WrongAnswer: it holds something else. The message calls it `what`.
    """
    if value is ...:
        raise MissingAnswer
    try:
        array = np.asarray(value)
        is_text = array.dtype.kind in "US"
        array = array if is_text else array.astype("float64")
    except Exception:
        raise WrongAnswer(
            f"{what} should be an array of numbers, and {describe_type(value)} like "
            "yours cannot be converted to one."
        ) from None
    if is_text:
        raise WrongAnswer(f"{what} should be {wanted}, without quotes or commas.")
    if not np.isfinite(array).all():
        raise WrongAnswer(
            f"{what} contains NaN or infinity: look for a logarithm of 0, or a "
            "division by 0."
        )
    return array


def require_number(value, what="the answer"):
    """Anything that holds one number, as a float; errors as in `require_array`."""
    array = require_array(value, what, "one number")
    if array.size != 1:
        raise WrongAnswer(
            f"{what} should be one number, not an array of shape {array.shape}."
        )
    return float(array.reshape(()))


def require_shape(value, shape, what="the result"):
    """`require_array(value)` in this shape, give or take an axis of length 1."""
    array = require_array(value, what)
    if array.shape != shape and array.shape not in (shape + (1,), (1,) + shape):
        raise WrongAnswer(f"{what} should have the shape {shape}, not {array.shape}.")
    return array.reshape(shape)


# ---------------------------------------------------------------- comparing


def is_close(a, b, rtol=1e-3, atol=1e-4):
    """Whether all numbers of `a` and `b` are about the same."""
    return bool(np.allclose(a, b, rtol=rtol, atol=atol))


def compare_prediction(guess, truth, unit=""):
    """A remark on a prediction, which is never judged."""
    format_number = lambda v: f"{v:,.0f}" if v >= 1000 else f"{v:.4g}"  # noqa: E731
    result = f"the result is {format_number(truth)}{unit}"
    try:
        guess = format_number(require_number(guess))
    except WrongAnswer:
        return f"{result}; your prediction is not one number."
    return f"you predicted {guess}{unit}; {result}."


def describe_difference(value, right):
    """ "too large" or "too small"."""
    return "too large" if value > right else "too small"


# ---------------------------------------------------------------- inputs


@functools.cache
def load_images():
    """2,000 training images (2000, 784) and their labels, of the course's sample."""
    images, labels, *_ = load_sample()
    return images[:2000], labels[:2000]


@functools.cache
def load_reference():
    """The encoder and decoder of the course's own full run."""
    names = ("vae_encoder", "vae_decoder")
    return [vh.load(course.REFERENCE / f"{name}.keras") for name in names]


@functools.cache
def build_transparent_decoder(latent_dim=10):
    """A decoder whose first pixels are the code itself, and the others 0."""
    decoder = keras.Sequential(
        [keras.Input((latent_dim,)), layers.Dense(784, use_bias=False)]
    )
    decoder.set_weights([np.eye(latent_dim, 784, dtype="float32")])
    return decoder


def recover_codes(images, n):
    """The codes (n, 10) from which `build_transparent_decoder` made these images."""
    images = require_shape(images, (n, 784), "the result")
    if not is_close(images[:, 10:], 0):
        raise WrongAnswer(
            "the images do not come from the decoder that is passed to your function."
        )
    return images[:, :10]


def make_posteriors(n=400, latent_dim=10, seed=0):
    """Means and log-variances (n, latent_dim), float32, all unlike the prior's."""
    rng = np.random.default_rng(seed)
    z_mean = rng.normal(0.3, 1.2, (n, latent_dim))
    z_log_var = rng.uniform(-2.5, 1.0, (n, latent_dim))
    return z_mean.astype("float32"), z_log_var.astype("float32")


def compute_sigma(z_log_var):
    """Standard deviations, as the helper's own layer uses them.

    Its draws are compared with those of width 1, made with the same noise.
    """
    zeros = np.zeros_like(z_log_var)
    draws = np.asarray(vh.Sampling(seed=3)([zeros, z_log_var]))
    return draws / np.asarray(vh.Sampling(seed=3)([zeros, zeros]))


def build_small_vae(encoder=None):
    """A VAE with one layer each way, or with the given encoder."""
    image = keras.Input((784,))
    encoder = encoder or keras.Model(
        image, [layers.Dense(10)(image), layers.Dense(10)(image)]
    )
    decoder = [keras.Input((10,)), layers.Dense(784, activation="sigmoid")]
    return vh.VAE(encoder, keras.Sequential(decoder))


def train_briefly(model, x, y):
    """Train for two short epochs.

    Raises:
        WrongAnswer: the loss is not finite, or does not fall.
    """
    keras.utils.set_random_seed(0)
    try:
        # Without compilation, all of it takes a second or two.
        model.compile(optimizer="adam", run_eagerly=True)
        loss = model.fit(x, y, batch_size=128, epochs=2, verbose=0).history["loss"]
    except (WrongAnswer, MissingAnswer):
        raise
    except Exception as error:
        raise WrongAnswer(
            f"training the model raised an error ({describe_error(error)})."
        ) from None
    if not np.isfinite(loss).all():
        raise WrongAnswer(
            "the training loss is not finite: look for an output that can grow without "
            "limit, or a logarithm of 0."
        )
    if loss[1] >= loss[0]:
        raise WrongAnswer(
            "the training loss does not fall in two short epochs: does every part of "
            "the model contribute to it?"
        )


# ---------------------------------------------------------------- chapter 01


@check
def grey_card(prediction, answer):
    value, right = require_number(answer), vh.pixel_entropy(np.full((1, 784), 0.5))
    if is_close(value, right / 784, 5e-3):
        raise WrongAnswer(
            "this is the BCE of one pixel: how many pixels does an image have?"
        )
    if is_close(value, right / np.log(2), 2e-3):
        raise WrongAnswer("this is in bits: use nats, with the natural logarithm.")
    if is_close(value, 0):
        raise WrongAnswer(
            "the BCE of a grey pixel is not 0, even for a perfect prediction: look at "
            "the curves of chapter 01 again."
        )
    if not is_close(value, right, 2e-3):
        raise WrongAnswer(
            f"the answer is {describe_difference(value, right)}: what is the BCE of "
            "one such pixel, predicted exactly?"
        )
    return compare_prediction(prediction, right, " nats")


@check
def other_data(load):
    names = ("the training images", "the validation images", "the test images")
    result, sets = call(load), []
    if not isinstance(result, (list, tuple)) or len(result) != 3:
        raise WrongAnswer(
            "the function should return three arrays: training, validation and test "
            "images."
        )
    for name, images in zip(names, result):
        if str(getattr(images, "dtype", "")).find("float32") < 0:
            dtype = getattr(images, "dtype", describe_type(images))
            raise WrongAnswer(
                f"{name} should be float32, like the course's, and are {dtype}."
            )
        values = require_array(images, name)
        if values.ndim != 2 or values.shape[1] != 784:
            raise WrongAnswer(
                f"{name} should be rows of 784 pixels, and have the shape "
                f"{values.shape}."
            )
        if values.min() < 0 or values.max() > 1:
            raise WrongAnswer(
                f"{name} should have pixels in [0, 1], and have values from "
                f"{values.min():g} to {values.max():g}."
            )
        if values.max() < 0.5 or np.ptp(values, axis=0).max() == 0:
            raise WrongAnswer(f"{name} are nearly black, or all the same.")
        sets.append(values.astype("float32"))
    keys = [{row.tobytes() for row in values} for values in sets]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        if len(keys[i] & keys[j]) > 0.02 * len(keys[j]):
            raise WrongAnswer(
                f"{names[i]} and {names[j]} share images, so that one part is no test "
                "of the other."
            )
    if keys[0] & {row.tobytes() for row in load_images()[0]}:
        raise WrongAnswer("this is Fashion-MNIST: choose any other data set.")
    train_briefly(build_small_vae(), sets[0][:512], sets[0][:512])
    floor = vh.pixel_entropy(sets[2])
    return f"the floor of the test images is {floor:.1f} nats."


# ---------------------------------------------------------------- chapter 02


@check
def parameters(prediction, answer):
    network = keras.Sequential(
        [keras.Input((784,)), *[layers.Dense(units) for units in (100, 10, 100, 784)]]
    )
    shapes = [w.shape for w in network.weights]
    value, right = require_number(answer), network.count_params()
    if value == sum(np.prod(shape) for shape in shapes if len(shape) == 2):
        raise WrongAnswer(
            "this counts the weight matrices only: what does a layer add after its "
            "matrix product?"
        )
    if value == sum(np.prod(shape) for shape in shapes[:4]):
        raise WrongAnswer(
            "this is half of the network, which also has to reconstruct the image."
        )
    if value != right:
        raise WrongAnswer(
            f"the answer is {describe_difference(value, right)}: count layer by layer, "
            "as in chapter 02."
        )
    return compare_prediction(prediction, right)


@check
def dead_units(count):
    rng, tables = np.random.default_rng(0), []
    for dead in ([3, 7, 11, 16], [0]):
        codes = rng.normal(size=(300, 18)).clip(0).astype("float32")
        codes[5] = 0  # an image without any active unit: that is no dead unit
        codes[:, 9] = 0
        codes[7, 9] = 0.001  # nor is a unit that is active once, with a small value
        codes[:, dead] = 0
        tables.append(codes)
    counts = [require_number(call(count, codes), "the count") for codes in tables]

    def equals(rule):
        return is_close(counts, [rule(codes == 0) for codes in tables])

    if equals(lambda zero: zero.all(axis=0).sum()):
        return
    if equals(lambda zero: (~zero).any(axis=0).sum()):
        raise WrongAnswer("this counts the active units.")
    if equals(lambda zero: zero.all(axis=0).mean()):
        raise WrongAnswer("this is the share of dead units: return their number.")
    if equals(lambda zero: zero.any(axis=0).sum()):
        raise WrongAnswer(
            "a unit that is zero for some images is not dead: with ReLU, this happens "
            "all the time."
        )
    if equals(lambda zero: zero.all(axis=1).sum()) or equals(
        lambda zero: zero.any(axis=1).sum()
    ):
        raise WrongAnswer("this seems to count images: which axis holds the units?")
    if equals(lambda zero: zero.sum()):
        raise WrongAnswer("this counts single zeros in the array, not units.")
    if equals(lambda zero: zero[0].sum()):
        raise WrongAnswer("this looks at the first image only.")
    raise WrongAnswer(
        f"for arrays with 4 dead units and with 1, the result is {counts[0]:g} and "
        f"{counts[1]:g}: some units are active rarely, or with small values."
    )


# ---------------------------------------------------------------- chapter 03


@check
def kl_by_hand(prediction, answer):
    mean, sigma = np.array([2.0, 0.0]), np.array([1.0, 0.5])

    def kl_with(log_var):
        return np.asarray(vh.kl_to_prior(mean, log_var), "float64")

    value, each = require_number(answer), kl_with(2 * np.log(sigma))
    right = each.sum()
    if value < 0:
        raise WrongAnswer("KL is never negative: check the signs in the closed form.")
    if is_close(value, right / 2, 5e-3):
        raise WrongAnswer(
            "this is the average over the two dimensions: how do the KL terms of "
            "independent dimensions combine?"
        )
    if is_close(value, right / np.log(2), 5e-3):
        raise WrongAnswer("this is in bits: use nats, with the natural logarithm.")
    confused = [kl_with(power * np.log(sigma)).sum() for power in (1, 4)]
    if any(is_close(value, kl, 5e-3) for kl in confused):
        raise WrongAnswer(
            "the part of the mean is right, that of the width is not: is it the "
            "standard deviation or the variance?"
        )
    if any(is_close(value, kl, 5e-3) for kl in each):
        raise WrongAnswer("this is the KL of only one of the two dimensions.")
    if not is_close(value, right, 5e-3):
        raise WrongAnswer(
            f"the answer is {describe_difference(value, right)}: use the closed form "
            "of chapter 03 for one dimension at a time."
        )
    return compare_prediction(prediction, right, " nats")


@check
def which_beta(answer):
    losses = {  # r: BCE summed over the pixels, k: KL summed over the dimensions
        "first": lambda r, k: 500 * (r / 1024) + k,
        "second": lambda r, k: 784 * (r / 784 + k),
        "third": lambda r, k: r + k / 20,
    }
    values = require_shape(answer, (3,), "the answer")
    for value, (place, loss) in zip(values, losses.items()):
        right = (loss(0, 1) - loss(0, 0)) / (loss(1, 0) - loss(0, 0))
        if is_close(value * right, 1, 5e-3):
            raise WrongAnswer(
                f"the {place} value is inverted: β is the weight of the KL relative to "
                "that of the reconstruction."
            )
        if not is_close(value, right, 5e-3):
            raise WrongAnswer(
                f"the {place} value is {describe_difference(value, right)}: by how "
                "much does that loss rise with one more nat of KL, and by how much "
                "with one more nat of BCE, summed over the pixels?"
            )


@check
def draw(function):
    z_mean, z_log_var = make_posteriors()
    noise = np.random.default_rng(1).normal(size=z_mean.shape).astype("float32")
    z = require_shape(call(function, z_mean, z_log_var, noise), z_mean.shape, "z")
    silent = require_array(call(function, z_mean, z_log_var, np.zeros_like(noise)))
    if not is_close(silent, z_mean):
        raise WrongAnswer("with noise 0, the result should be the mean, and is not.")
    if is_close(z, z_mean):
        raise WrongAnswer("the noise is not used.")
    sigma = compute_sigma(z_log_var)
    used = (z - z_mean) / sigma  # the noise that was used, if sigma is right
    scale = (z - z_mean) / noise
    if is_close(used, used[:1], atol=1e-3) or is_close(used, used[:, :1], atol=1e-3):
        raise WrongAnswer(
            "every number of every code has its own noise, and in yours many share "
            "the same."
        )
    if is_close(scale, 1, 1e-2):
        raise WrongAnswer(
            "the noise is added unscaled: wide and narrow distributions should differ."
        )
    if (scale < 0).any():
        raise WrongAnswer(
            "the noise is multiplied by a negative number for some images: the width "
            "of a distribution is never negative."
        )
    if not is_close(z, z_mean + sigma * noise, atol=1e-3):
        uses_variance = is_close(z, z_mean + sigma**2 * noise, atol=1e-2)
        hint = ": the noise is scaled by the variance" if uses_variance else ""
        raise WrongAnswer(
            f"the mean is right, the width of the distribution is not{hint}."
        )
    mean, log_var = tf.Variable(z_mean), tf.Variable(z_log_var)
    with tf.GradientTape() as tape:
        z = function(mean, log_var, noise)
    if not tf.is_tensor(z) or any(
        gradient is None for gradient in tape.gradient(z, [mean, log_var])
    ):
        return (
            "the values are right; inside a model, use keras.ops, so that gradients "
            "reach the mean and the log-variance."
        )


@check
def kl(function):
    z_mean, z_log_var = make_posteriors(5)
    each = np.asarray(vh.kl_to_prior(z_mean, z_log_var), "float64")  # (5, 10)
    result = require_array(call(function, z_mean, z_log_var), "the KL")
    if result.shape == each.shape:
        raise WrongAnswer(
            "the result has a KL for each dimension of each image: what is the KL of "
            "an image?"
        )
    totals = (each.sum(), each.sum(axis=1).mean(), each.mean())
    if result.size == 1 and any(is_close(result, total) for total in totals):
        raise WrongAnswer(
            "the result is one number for the whole batch: five images should give "
            "five numbers."
        )
    if result.shape == (10,):
        raise WrongAnswer(
            "the result has ten numbers for five images, one for each dimension: which "
            "axis holds the dimensions?"
        )
    result, right = require_shape(result, (5,), "the KL"), each.sum(axis=1)
    if is_close(result, each.mean(axis=1)):
        raise WrongAnswer(
            "the KL is ten times too small, for ten dimensions: how do the KL terms of "
            "independent dimensions combine?"
        )
    if is_close(result, 2 * right):
        raise WrongAnswer("the KL is twice as large as it should be, for every image.")
    if is_close(result, -right):
        raise WrongAnswer("the sign is wrong: KL is never negative.")
    if not is_close(call(function, z_mean[:1] * 0, z_log_var[:1] * 0), 0):
        raise WrongAnswer(
            "the KL of a distribution that equals the prior should be 0, and is not."
        )
    if not is_close(result, right):
        with_unit_width = require_array(call(function, z_mean, 0 * z_log_var)).ravel()
        mean_is_right = is_close(with_unit_width, 0.5 * np.square(z_mean).sum(axis=1))
        part = "the width" if mean_is_right else "the mean"
        raise WrongAnswer(
            f"the KL of the prior is 0, as it should be, but the part of {part} is "
            "wrong for other distributions."
        )


@check
def memoriser(prediction, function):
    rng = np.random.default_rng(0)
    garments = np.clip(load_images()[0][:500], 1e-6, 1 - 1e-6)
    for images, n in ((rng.uniform(0.1, 0.9, (4, 6)), 3), (garments, 60)):
        is_small = len(images) == 4
        binary = (rng.random((n, images.shape[1])) < images[:n]).astype(images.dtype)
        result = call(function, binary, images)
        if not is_small and not np.isfinite(np.asarray(result, "float64")).all():
            raise WrongAnswer(
                "images of 6 pixels are right, images of 784 pixels give NaN or "
                "infinity: their probabilities are too small for floating-point "
                "numbers, so work with logarithms until the end."
            )
        result = require_shape(result, (n,), "the result")
        images, binary = images.astype("float64"), binary.astype("float64")
        # -log p(binary | image), (n, images)
        nll = -binary @ np.log(images).T - (1 - binary) @ np.log(1 - images).T
        choice = np.log(len(images))
        right = choice - logsumexp(-nll, axis=1)
        if is_close(result, -right):
            raise WrongAnswer("this is log p: change the sign.")
        if is_close(result, right - choice):
            raise WrongAnswer(
                "the choice of the image costs nothing in your result: with which "
                "probability is each image chosen?"
            )
        if is_close(result, nll.mean(axis=1)):
            raise WrongAnswer(
                "this is the average of the images' own negative log-likelihoods, and "
                "the logarithm of an average is not the average of the logarithms."
            )
        if is_small and is_close(result, choice + nll.min(axis=1)):
            raise WrongAnswer(
                "this uses the nearest image only: in a mixture every image counts."
            )
        if not is_close(result, right):
            difference = describe_difference(result.mean(), right.mean())
            raise WrongAnswer(
                f"for images of {images.shape[1]} pixels the result is {difference}: "
                "compute the probability of a binary image under each single image "
                "first, then that of the mixture."
            )
    return compare_prediction(prediction, np.mean(result - np.diag(nll)), " nats")


@check
def latent_map(function):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 800)
    spread = np.array([0.3, 1.3, 0.9, 1.2, 1.1, 0.05])  # of the means
    sigma = np.sqrt([0.03, 0.6, 0.01, 0.05, 0.7, 0.95])
    z_mean = (rng.normal(size=(800, 6)) + 0.5 * labels[:, None]) * spread
    z_log_var = rng.normal(2 * np.log(sigma), 0.2, (800, 6))
    z_mean, z_log_var = (part.astype("float32") for part in (z_mean, z_log_var))
    result = call(function, z_mean, z_log_var, labels, 2)
    if not isinstance(result, (list, tuple)) or len(result) != 3:
        raise WrongAnswer(
            "the function should return three things: the dimensions, the centre, and "
            "the half-axes."
        )
    dimensions = require_shape(result[0], (2,), "the dimensions")
    kl = np.asarray(vh.kl_to_prior(z_mean, z_log_var)).mean(axis=0)

    def top(values):
        return list(np.argsort(values)[:-3:-1])

    if is_close(dimensions, top(z_mean.var(axis=0))):
        raise WrongAnswer(
            "these are the dimensions with the largest variance of the means: the mean "
            "KL also counts the width of the distributions."
        )
    if is_close(dimensions, top(-kl)):
        raise WrongAnswer("these are the two dimensions with the smallest mean KL.")
    if is_close(dimensions, top(kl)[::-1]):
        raise WrongAnswer("the dimensions are right, their order is reversed.")
    if not is_close(dimensions, top(kl)):
        raise WrongAnswer(
            "these are not the two dimensions with the largest mean KL over the images."
        )
    dimensions = dimensions.astype(int)
    means, log_vars = z_mean[:, dimensions], z_log_var[:, dimensions]
    centre = require_shape(result[1], (2,), "the centre")
    if is_close(centre, means.mean(axis=0)):
        raise WrongAnswer("this is the centre of all images, not of one class.")
    if not is_close(centre, means[labels == 2].mean(axis=0)):
        raise WrongAnswer(
            "the centre is not the average of the class's means in the two dimensions."
        )
    half_axes = require_shape(result[2], (800, 2), "the half-axes")
    if is_close(half_axes, np.exp(log_vars)):
        raise WrongAnswer("the half-axes are variances: an axis is as long as sigma.")
    if not is_close(half_axes, compute_sigma(log_vars)):
        raise WrongAnswer(
            "the half-axes are not the standard deviations in the two dimensions."
        )


def measure_terms(loss, pixels, latent_dim):
    """What a nat of reconstruction and a nat of KL each add to the student's loss."""
    rng = np.random.default_rng(0)
    x = rng.random((8, pixels)).astype("float32")
    x_hat = rng.uniform(0.1, 0.9, (8, pixels)).astype("float32")
    z_mean, z_log_var = make_posteriors(8, latent_dim)
    zeros = np.zeros_like(z_mean)
    r = float(np.mean(vh.bernoulli_nll(x, x_hat)))
    k = float(np.asarray(vh.kl_to_prior(z_mean, z_log_var)).sum(axis=1).mean())
    without_kl = require_array(call(loss, x, x_hat, zeros, zeros), "the loss")
    with_kl = require_array(call(loss, x, x_hat, z_mean, z_log_var), "the loss")
    if with_kl.size == 8:
        raise WrongAnswer(
            "the result has one loss for each image: return one number, the average "
            "over the batch."
        )
    without_kl = require_number(without_kl, "the loss")
    with_kl = require_number(with_kl, "the loss")
    if is_close(without_kl, 8 * r) or is_close(with_kl, 8 * (r + k)):
        raise WrongAnswer("the loss grows with the number of images in the batch.")
    return without_kl / r, (with_kl - without_kl) / k


def judge_terms(loss, cases):
    """Raise `WrongAnswer` unless a nat of each term adds 1, in all cases."""
    for i, (pixels, latent_dim) in enumerate(cases):
        by_r, by_k = measure_terms(loss, pixels, latent_dim)
        effect = (
            f"with {pixels} pixels and {latent_dim} latent dimensions, one nat of "
            f"reconstruction adds {by_r:.4g} to the loss, one nat of KL adds {by_k:.4g}"
        )
        if is_close([by_r, by_k], 1, 2e-3):
            continue
        if i:
            raise WrongAnswer(
                f"right for the first shape, not for another: {effect}; which number "
                "in the code fits one model only?"
            )
        if is_close(by_k / by_r, 1, 2e-3):
            raise WrongAnswer(
                "the balance of the two terms is right, the scale is not: a nat of "
                f"either adds {by_r:.4g} to the loss."
            )
        raise WrongAnswer(f"{effect}.")


@find_the_bug
def loss(function):
    judge_terms(function, [(784, 10), (784, 4)])


@find_the_bug
def any_size(function):
    judge_terms(function, [(1024, 10), (784, 10)])


@find_the_bug
def sampling_layer(layer):
    layer = call(layer) if isinstance(layer, type) else layer
    z_mean, z_log_var = (tf.constant(part) for part in make_posteriors(2_000))
    sigma = compute_sigma(np.asarray(z_log_var))
    noise = []
    for _ in range(3):
        z = require_shape(call(layer, [z_mean, z_log_var]), (2_000, 10), "the result")
        noise.append((z - z_mean) / sigma)
    if is_close(noise[0], 0):
        raise WrongAnswer("the layer adds no noise.")
    if is_close(noise[0], noise[1]):
        raise WrongAnswer(
            "called twice with the same means and log-variances, the layer returns the "
            "same codes."
        )
    if is_close(noise[0][0], noise[0][1]) or is_close(noise[0], noise[0][:1]):
        raise WrongAnswer(
            "the noise is new in every call, but the same for all images of a batch."
        )
    if np.abs(np.corrcoef(noise[0], rowvar=False) - np.eye(10)).max() > 0.2:
        raise WrongAnswer(
            "every image has its own noise, but the ten numbers of a code are "
            "correlated."
        )
    if (
        np.abs(np.std(noise[0], axis=0) - 1).max() > 0.1
        or np.abs(np.mean(noise[0], axis=0)).max() > 0.15
    ):
        raise WrongAnswer(
            "the noise is new in every call, but the codes do not have the mean and "
            "the width of their distributions."
        )
    compiled = call(
        tf.function(lambda: layer([z_mean, z_log_var])).get_concrete_function
    )
    if is_close(*(require_array(call(compiled)) for _ in range(2))):
        raise WrongAnswer(
            "the noise is new when you call the layer, but not in training: Keras "
            "compiles the training step, and code that is neither Keras nor TensorFlow "
            "runs only once, during compilation."
        )


@find_the_bug
def validation(model):
    x = load_images()[0][:200]
    vae = call(model, *load_reference())

    def measure(vae, training):
        x_hat = call(functools.partial(vae, training=training), x)
        require_array(x_hat, "the reconstruction")
        reconstruction = float(np.mean(vh.bernoulli_nll(x, x_hat)))
        return reconstruction, float(vae.compute_loss(x, x, x_hat))

    right = np.array(
        [measure(vh.VAE(*load_reference(), seed=seed), False) for seed in range(4)]
    )
    for training in (True, False):
        result = np.array([measure(vae, training) for _ in range(4)])
        when = "in training" if training else "in validation"
        if np.ptp(result[:, 0]) == 0:
            raise WrongAnswer(
                f"{when}, the same images give the same reconstruction every time."
            )
        if not is_close(result[:, 0].mean(), right[:, 0].mean(), atol=1.0):
            raise WrongAnswer(
                f"{when}, noise is added to the codes, but they do not follow the "
                "encoder's distributions: compare with chapter 03's VAE."
            )
        if not is_close(result[:, 1] - result[:, 0], right[:, 1] - right[:, 0], 1e-2):
            raise WrongAnswer(
                f"{when}, the reconstruction is right, but the KL term is not."
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
    if not isinstance(vae, keras.Model):
        raise WrongAnswer(f"the answer should be a class, not {describe_type(kind)}.")
    vae.compile(optimizer="adam", run_eagerly=True)
    call(functools.partial(vae.fit, verbose=0), x, x)
    for part, norm in zip(("encoder", "decoder"), norms):
        if not np.asarray(norm.moving_mean).any():
            raise WrongAnswer(
                f"after a training step, the moving mean of the {part}'s "
                "BatchNormalization is still 0, as if the network had not been in "
                "training."
            )
    before = np.asarray(norms[0].moving_mean)
    # In validation nothing but z is drawn.
    kls = []
    for model in (vae, vae, vh.VAE(encoder, decoder)):
        call(functools.partial(model, training=False), x)
        kls.append(require_array(getattr(model, "_kl", ()), "self._kl"))
    if not is_close(before, norms[0].moving_mean) or not is_close(kls[0], kls[1]):
        raise WrongAnswer(
            "the network is in training mode in validation, too: Dropout removes units "
            "there, and BatchNormalization uses the batch's own mean."
        )
    if kls[0].shape != (64,) or not is_close(kls[0], kls[2]):
        raise WrongAnswer("both layers work, but the KL is not that of chapter 03.")


def iterate_layers(model):
    """The layers of a model, and those of the models inside it."""
    for layer in model.layers:
        yield layer
        yield from iterate_layers(layer) if hasattr(layer, "layers") else ()


@check
def convolutional(build):
    keras.utils.set_random_seed(0)
    encoder = call(build)
    if not isinstance(encoder, keras.Model):
        raise WrongAnswer(
            f"the function should return a Keras model, not {describe_type(encoder)}."
        )
    if not any("Conv2D" in type(layer).__name__ for layer in iterate_layers(encoder)):
        raise WrongAnswer("the model has no two-dimensional convolution.")
    x = load_images()[0]
    outputs = call(encoder, x[:200])
    if not isinstance(outputs, (list, tuple)) or len(outputs) != 2:
        raise WrongAnswer(
            "the model should have two outputs, the mean and the log-variance."
        )
    for name, output in zip(("z_mean", "z_log_var"), outputs):
        if require_shape(output, (200, 10), name).min() >= 0:
            raise WrongAnswer(
                f"{name} is never negative: what is the last layer's activation?"
            )
    if np.allclose(outputs[0], outputs[1]):
        raise WrongAnswer(
            "the mean and the log-variance are the same numbers: each needs its own "
            "weights."
        )
    if encoder.count_params() > vh.build_encoder().count_params() / 4:
        raise WrongAnswer(
            f"the model has {encoder.count_params():,} parameters, more than a quarter "
            "of the dense encoder's: find the layer that has most of them, and reduce "
            "the image before it."
        )
    train_briefly(build_small_vae(encoder), x[:512], x[:512])


@check
def conditional(build):
    x, y = (part[:512] for part in load_images())
    one_hot = np.eye(10, dtype="float32")
    keras.utils.set_random_seed(0)
    model = call(build)
    for name in ("encoder", "decoder"):
        if not isinstance(getattr(model, name, None), keras.Model):
            raise WrongAnswer(f"the model has no {name} that is a Keras model.")
    if len(model.decoder.inputs) != 2:
        raise WrongAnswer("the decoder should have two inputs, a code and a label.")
    shape = (50, model.decoder.inputs[0].shape[1])
    z = np.random.default_rng(0).normal(size=shape).astype("float32")
    images = []
    for label in one_hot:  # the same codes for each class
        output = call(model.decoder, [z, np.tile(label, (50, 1))])
        images.append(require_shape(output, (50, 784), "the decoder's output"))
    images = np.stack(images)
    if images.min() < 0 or images.max() > 1:
        raise WrongAnswer("the decoder's pixels are not all in [0, 1].")
    if np.ptp(images, axis=0).max() < 1e-6:
        raise WrongAnswer(
            "the decoder returns the same image for every class: check where the label "
            "goes."
        )
    if np.ptp(images, axis=1).max() < 1e-6:
        raise WrongAnswer(
            "the decoder returns the same image for every code: check where the code "
            "goes."
        )
    kls = []
    for classes in (y, (y + 1) % 10):
        call(model, [x, one_hot[classes]])
        kls.append(require_array(getattr(model, "_kl", ()), "self._kl"))
        if kls[-1].shape != (512,):
            raise WrongAnswer(
                "`self._kl` should have one number per image, and for 512 images it "
                f"has the shape {kls[-1].shape}."
            )
    if is_close(*kls, 0, 1e-6):
        raise WrongAnswer(
            "the encoder returns the same distribution for every class: give it the "
            "label, too."
        )
    train_briefly(model, [x, one_hot[y]], x)
    return (
        "the requested class changes the image; train the model on all the data, and "
        "look at its images."
    )


# ---------------------------------------------------------------- chapter 04


@check
def inside_ball(prediction, answer):
    value = require_number(answer)
    right = chi2(10).cdf(1.0)
    if value == 0:
        raise WrongAnswer(
            "none of your draws is inside, because very few are: draw many more."
        )
    if is_close(value, 0.6827, 0.02):
        raise WrongAnswer(
            "this is right in one dimension: how many dimensions does a code of "
            "chapter 04 have?"
        )
    if is_close(value, 0.6827**10, 0.08):
        raise WrongAnswer(
            "this is the share in a cube, with every coordinate below 1: how long is "
            "the code?"
        )
    if is_close(value, 100 * right, 0.5):
        raise WrongAnswer("this may be a percentage: give a share between 0 and 1.")
    if not 0.3 * right < value < 2 * right:
        raise WrongAnswer(
            f"the answer is {describe_difference(value, right)}: the length of a code "
            "depends on all of its numbers together."
        )
    return compare_prediction(prediction, right)


@check
def traverse(function):
    cases = ((7, np.linspace(-3, 3, 11)), (0, np.array([-1.0, 0.5, 2.0])))
    for dimension, values in cases:
        decoder = build_transparent_decoder()
        images = call(function, decoder, dimension, values.astype("float32"))
        images = require_array(images, "the result")
        if images.shape == (len(values), 10):
            raise WrongAnswer("the result is codes, not images: are they decoded?")
        codes = recover_codes(images, len(values))
        others = np.delete(codes, dimension, axis=1)
        if is_close(codes, 0):
            raise WrongAnswer("nothing changes: all codes are at the origin.")
        if is_close(codes, np.repeat(values[:, None], 10, axis=1)):
            raise WrongAnswer("all dimensions change at once.")
        if not is_close(others, 0):
            raise WrongAnswer("the other dimensions should stay at 0, and do not.")
        is_reversed = is_close(codes[::-1, dimension], values)
        if is_reversed and not is_close(values[::-1], values):
            raise WrongAnswer(
                "the order is reversed: the first image should belong to the first "
                "value."
            )
        if not is_close(codes[:, dimension], values):
            raise WrongAnswer(
                "the requested dimension does not take the requested values."
            )


@check
def slerp(function):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 10)).astype("float32")
    t = np.linspace(0, 1, 9, dtype="float32")
    path = require_shape(call(function, a, b, t), (9, 10), "the path")
    if is_close(path[[0, -1]], [b, a]):
        raise WrongAnswer("the order is reversed: t = 0 should give the first code.")
    if is_close(path, a + t[:, None] * (b - a)):
        raise WrongAnswer(
            "this is the straight line, which passes closer to the origin: look at the "
            "lengths of the codes along it."
        )
    if not is_close(path[[0, -1]], [a, b], atol=1e-3):
        raise WrongAnswer(
            "the path should begin at the first code and end at the second, and does "
            "not."
        )
    # With equal lengths it must be an arc of a circle.
    a = a * np.linalg.norm(b) / np.linalg.norm(a)
    path = require_shape(call(function, a, b, t), (9, 10), "the path")
    lengths = np.linalg.norm(path, axis=1)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    if not is_close(lengths, lengths[0], 1e-2):
        raise WrongAnswer(
            "between two codes of equal length the length should not change, and does."
        )
    if not is_close(steps, steps[0], 1e-2):
        raise WrongAnswer(
            "the lengths are right, but equal steps of t are not equal steps on the "
            "arc."
        )
    failed = 0
    for i, a in enumerate(rng.normal(size=(200, 10)).astype("float32")):
        a = a.astype("float64") if i % 2 else a
        b = a * (i % 4 // 2 + 1)  # the same code, or twice the code
        try:
            path = call(function, a, b, t.astype(a.dtype))
            path = require_shape(path, (9, 10), "the path")
        except WrongAnswer:
            failed += 1
            continue
        if not is_close(path, a + t[:, None] * (b - a), 1e-2, 1e-3):
            raise WrongAnswer(
                "between two codes of the same direction the path should be a straight "
                "line, and is not."
            )
    if failed:
        raise WrongAnswer(
            f"between two codes of the same direction it fails, for {failed} of 200 "
            "pairs: how large is the angle there, and how does rounding change its "
            "cosine?"
        )


@find_the_bug
def new_garments(function):
    n = 2_000
    image, show = keras.Input((784,)), layers.Dense(10, use_bias=False)
    encoder = keras.Model(image, [show(image), show(image)])
    show.set_weights([np.eye(784, 10, dtype="float32")])
    decoder, codes = build_transparent_decoder(), []
    for level in (0.0, 3.0):  # of the pixels, hence of the codes' mean and log-variance
        images = np.full((n, 784), level, "float32")
        codes.append(recover_codes(call(function, encoder, decoder, images, n), n))
    if np.abs(codes[0].mean() - codes[1].mean()) > 0.2 or not is_close(
        codes[0].std(), codes[1].std(), 0.1
    ):
        raise WrongAnswer(
            'the "new" images change with the input images: where do the codes come '
            "from?"
        )
    for code in codes:
        if np.ptp(code, axis=0).max() < 1e-3:
            raise WrongAnswer("all images show the same garment.")
        if np.abs(code.mean(axis=0)).max() > 0.15:
            raise WrongAnswer(
                "the input images are no longer used, but the mean of the codes is not "
                "the prior's."
            )
        if np.abs(code.std(axis=0) - 1).max() > 0.1:
            raise WrongAnswer(
                "the input images are no longer used, but the spread of the codes is "
                "not the prior's."
            )
        if np.abs(np.corrcoef(code, rowvar=False) - np.eye(10)).max() > 0.2:
            raise WrongAnswer(
                "the ten numbers of a code are correlated, and the prior's are not."
            )
        if np.mean(np.abs(code) < 1) < 0.66 or np.mean(np.abs(code) < 1) > 0.71:
            raise WrongAnswer(
                "the mean and the spread are the prior's, but the shape is not: the "
                "prior is a normal distribution."
            )


@find_the_bug
def pairs(function):
    for seed in range(3):
        labels = np.random.default_rng(seed).integers(0, 10, 3_000)
        ends = require_shape(call(function, labels, 200), (200, 2), "the result")
        is_index = 0 <= ends.min() and ends.max() < len(labels)
        if not is_index or not is_close(ends, ends.round()):
            raise WrongAnswer("the result should be indices of images, and is not.")
        if ends.max() < 10:
            raise WrongAnswer(
                "the result seems to be classes: which are the images at the two ends "
                "of each interpolation?"
            )
        a, b = labels[ends.astype(int)].T
        if (a == b).mean() > 0.5:
            raise WrongAnswer(
                "look at the classes at the two ends of each interpolation."
            )
        if (a == b).any():
            raise WrongAnswer(
                f"better, but {np.sum(a == b)} of 200 interpolations still begin and "
                "end in the same class."
            )
        if len(set(a) | set(b)) < 10:
            raise WrongAnswer(
                "the classes at the two ends differ, but some classes never occur."
            )
        if len({(min(pair), max(pair)) for pair in zip(a, b)}) < 30:
            raise WrongAnswer(
                "the classes at the two ends differ, but nearly all interpolations "
                "are between the same few classes."
            )
        if len(np.unique(ends, axis=0)) < 150:
            raise WrongAnswer(
                "the classes at the two ends differ, but many pairs are repeated."
            )


# ---------------------------------------------------------------- chapter 05


@check
def draw_like(function):
    rng = np.random.default_rng(0)
    mixing = np.array(
        [[3.0, 0, 0, 0], [2.5, 1.0, 0, 0], [0, 0, 0.5, 0], [-1.0, 0, 0, 2.0]]
    )
    codes = (rng.normal(size=(5_000, 4)) @ mixing.T + [4, -2, 0, 1]).astype("float32")
    draws = require_shape(call(function, codes, 20_000), (20_000, 4), "the result")
    cov, cov_drawn = np.cov(codes, rowvar=False), np.cov(draws, rowvar=False)
    variances, variances_drawn = np.diag(cov), np.diag(cov_drawn)
    if np.isin(draws[:100, 0].astype("float32"), codes[:, 0]).mean() > 0.5:
        raise WrongAnswer("these are the codes that were passed in, not new ones.")
    if np.abs(draws.mean(axis=0) - codes.mean(axis=0)).max() > 0.2:
        raise WrongAnswer("the mean of the draws is not the mean of the codes.")
    if not is_close(variances_drawn, variances, 0.1):
        squares = (variances**2, np.diag(cov @ cov))
        if any(is_close(variances_drawn, square, 0.15) for square in squares):
            raise WrongAnswer(
                "the spread is wrong: perhaps a variance is used in place of its "
                "square root."
            )
        raise WrongAnswer("the draws do not have the spread of the codes.")
    if not is_close(cov_drawn, cov, 0.1, 0.2):
        raise WrongAnswer(
            "each dimension by itself is right, but some dimensions of the codes are "
            "correlated, and in your draws they are not, as in chapter 02."
        )


@check
def own_features(function):
    images, labels = load_images()
    real, others = images[:1000], images[1000:]

    def features_of(x):
        values = require_array(call(function, x), "the features")
        if values.ndim != 2 or len(values) != len(x):
            raise WrongAnswer(
                f"for images {x.shape} the features should have the shape "
                f"({len(x)}, d), not {values.shape}."
            )
        return values

    features = features_of(real)
    if not 2 <= features.shape[1] <= 100:
        raise WrongAnswer(
            f"the number of features should be from 2 to 100, and is "
            f"{features.shape[1]}: the covariance of many features needs more images."
        )
    if not is_close(features, features_of(real)):
        raise WrongAnswer(
            "two calls with the same images give different features: fix whatever is "
            "random."
        )
    if not is_close(features[:100], features_of(real[:100]), atol=1e-3):
        raise WrongAnswer(
            "the features of an image depend on the other images that are passed with "
            "it: fit or draw whatever you need outside the function, once."
        )
    shuffled = np.random.default_rng(0).permutation(784)  # the same for all images
    sets = {
        "other real images": others,
        "one class only": others[labels[1000:] == 8],
        "pixels in random order": others[:, shuffled],
    }
    distances = {
        name: evaluation.squared_frechet(features, features_of(x))
        for name, x in sets.items()
    }
    floor = distances["other real images"]
    for name, distance in distances.items():
        if name != "other real images" and distance < 2 * floor + 1e-9:
            raise WrongAnswer(
                f'by your features, the set "{name}" is about as far from 1,000 real '
                f"images ({distance:.3g}) as other real images are ({floor:.3g}): they "
                "do not see what is wrong with it."
            )
    listed = ", ".join(f"{name} {distance:.3g}" for name, distance in distances.items())
    return f"squared Fréchet distance from 1,000 real images: {listed}."


@check
def schedule(callback):
    epochs, weights = 8, []
    vae = vh.VAE(vh.build_encoder(), vh.build_decoder())
    variable = vae.kl_weight  # as a compiled training step reads it
    result = call(callback, vae, epochs)
    if not isinstance(result, keras.callbacks.Callback):
        raise WrongAnswer(
            f"the function should return a Keras callback, not {describe_type(result)}."
        )
    result.set_model(vae)
    for epoch in range(epochs + 4):
        result.on_epoch_begin(epoch)
        weights.append(float(np.asarray(variable)))
    weights, t = np.array(weights), np.minimum(np.arange(epochs + 4) / epochs, 1)
    if is_close(weights, weights[0]):
        raise WrongAnswer(
            "the KL weight never changes: does the callback act when an epoch begins?"
        )
    if is_close(weights, t, atol=1e-3):
        raise WrongAnswer("this is the linear warm-up of chapter 05.")
    if not is_close(weights[0], 0):
        raise WrongAnswer(
            f"in the first epoch the KL weight should be 0, and is {weights[0]:.3g}."
        )
    if not is_close(weights[epochs:], 1):
        raise WrongAnswer(
            f"from epoch {epochs} on the KL weight should stay at 1, and its values "
            f"are {weights[epochs:].round(3)}."
        )
    if (np.diff(weights) < -1e-6).any():
        raise WrongAnswer("the KL weight falls during the warm-up.")
    falling = keras.optimizers.schedules.CosineDecay(1.0, epochs)
    half_cosine = [1 - float(falling(epoch)) for epoch in range(epochs + 4)]
    if not is_close(weights, half_cosine, atol=1e-3):
        raise WrongAnswer(
            "the KL weight rises from 0 to 1, but not along half a cosine: halfway it "
            f"is {weights[epochs // 2]:.3g}."
        )


# ---------------------------------------------------------------- chapter 06


@find_the_bug
def log_density(function):
    mean, log_var = 0.7, -1.2
    z = np.linspace(-6, 8, 14_001)[:, None]  # (14001, 1)
    ones = np.ones_like(z)
    result = call(function, z, mean * ones, log_var * ones)
    result = require_shape(result, (14_001,), "the result")
    if result.min() >= 0:
        raise WrongAnswer(
            "far from the mean the result should be very negative, and is not: is it "
            "the density, not its logarithm?"
        )
    density = np.exp(result)
    area = density.sum() * 0.001
    if is_close(area, np.sqrt(2 * np.pi), 1e-2):
        raise WrongAnswer(
            "the density does not integrate to 1: a constant is missing, the same for "
            "all z."
        )
    centre = (z[:, 0] * density).sum() / density.sum()
    spread = ((z[:, 0] - centre) ** 2 * density).sum() / density.sum()
    if not is_close(centre, mean, 1e-2):
        raise WrongAnswer("the centre of the density is not at its mean.")
    if not is_close(spread, np.exp(log_var), 1e-2):
        raise WrongAnswer(
            f"the width is wrong: the log-variance was {log_var}, and the variance of "
            f"your density has the logarithm {np.log(spread):.2f}."
        )
    if not is_close(area, 1, 1e-2):
        raise WrongAnswer(
            f"the width is right, but the density integrates to {area:.3g} and should "
            "integrate to 1."
        )
    z_mean, z_log_var = (part.astype("float64") for part in make_posteriors(5, 3))
    arguments = np.ones((5, 3)), z_mean, z_log_var
    whole = require_shape(call(function, *arguments), (5,), "the result")
    parts = [
        require_array(call(function, *(part[:, [d]] for part in arguments))).ravel()
        for d in range(3)
    ]
    if not is_close(whole, np.sum(parts, axis=0)):
        raise WrongAnswer(
            "one dimension is right, three are not: how do the log-densities of "
            "independent numbers combine?"
        )


def negative_elbo(decoder, x, z_mean, z_log_var, draws=200):
    """Reconstruction and KL in nats of each image, (n,) both; the noise is fixed."""
    noise = np.random.default_rng(0).normal(size=(draws, *z_mean.shape))
    z = (z_mean + np.exp(0.5 * z_log_var) * noise).astype("float32")
    x_hat = decoder(z.reshape(-1, z.shape[-1]))
    nll = np.asarray(vh.bernoulli_nll(np.tile(x, (draws, 1)), x_hat))
    kl = np.asarray(vh.kl_to_prior(z_mean, z_log_var)).sum(axis=1)
    return nll.reshape(draws, len(x)).mean(axis=0), kl


@check
def refine(function):
    encoder, decoder = load_reference()
    x = load_images()[0][:8]
    start = [np.asarray(part) for part in encoder(x)]
    weights = decoder.get_weights()
    result = call(function, decoder, x, *start)
    is_changed = any((a != b).any() for a, b in zip(weights, decoder.get_weights()))
    decoder.set_weights(weights)  # it is shared with other checks
    if is_changed:
        raise WrongAnswer("the decoder has changed: only the codes may be optimised.")
    if not isinstance(result, (list, tuple)) or len(result) != 2:
        raise WrongAnswer(
            "the function should return two arrays, the means and the log-variances."
        )
    z_mean, z_log_var = (
        require_shape(part, (8, 10), name).astype("float32")
        for part, name in zip(result, ("z_mean", "z_log_var"))
    )
    (nll, kl), (nll_after, kl_after) = (
        negative_elbo(decoder, x, *codes) for codes in (start, (z_mean, z_log_var))
    )
    gain = (nll + kl - nll_after - kl_after).mean()
    if gain < -0.05 and nll_after.mean() < nll.mean():
        raise WrongAnswer(
            f"the reconstruction improves by {np.mean(nll - nll_after):.1f} nats, but "
            f"the KL rises by {np.mean(kl_after - kl):.1f} nats: minimise their sum."
        )
    if gain < -0.05:
        raise WrongAnswer(
            f"−ELBO is {-gain:.2f} nats worse than that of the encoder's codes."
        )
    if gain < 0.8:
        raise WrongAnswer(
            f"−ELBO improves by {gain:.2f} nats per image only: take more steps or "
            "larger ones, and more draws of the noise per step."
        )
    return "−ELBO improves; chapter 06 shows how much there is to gain."


@check
def inpaint(function):
    encoder, decoder = load_reference()
    all_images = load_images()[0]
    images, average = all_images[:40], all_images.mean(axis=0)
    losses = []
    for visible in (np.arange(784) < 392, np.arange(784) >= 392):
        covered = np.where(visible, images, 0).astype("float32")
        result = call(function, encoder, decoder, covered, visible)
        result = require_shape(result, images.shape, "the result").astype("float32")
        if result.min() < -1e-6 or result.max() > 1 + 1e-6:
            raise WrongAnswer("the pixels of the result are not all in [0, 1].")
        if not is_close(result[:, visible], images[:, visible]):
            raise WrongAnswer("the visible pixels should stay as they are, and do not.")
        if is_close(result[:, ~visible], 0):
            raise WrongAnswer("the hidden pixels are still black.")
        once = np.asarray(decoder(encoder(covered)[0]))
        losses.append([
            np.mean(vh.bernoulli_nll(images[:, ~visible], part[:, ~visible]))
            for part in (result, once, np.tile(average, (len(images), 1)))
        ])  # fmt: skip
    own, once, plain = np.mean(losses, axis=0)
    if is_close(own, once, 1e-2):
        raise WrongAnswer(
            "the hidden half is what the model makes of the covered image, with the "
            "hidden pixels taken for black: the code has to fit the visible pixels "
            "only."
        )
    if own > 0.9 * plain:
        raise WrongAnswer(
            f"the hidden half costs {own:.0f} nats per image, and {plain:.0f} nats if "
            "it is filled with the average of all garments: the codes fit other "
            "garments than these; where does the search for them begin?"
        )
    return "the hidden half is closer to the truth than the average of all garments."
