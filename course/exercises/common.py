"""What the checks share: verdicts, reading answers, comparing them, inputs."""

import functools
import re
import traceback

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np

import course
from course.data import load_sample

VERDICTS = {}  # name of a check, with its number: "3.4 sampling_layer" -> last verdict


class WrongAnswer(Exception):
    """What is wrong with an answer, in a sentence."""


class MissingAnswer(Exception):
    """The placeholder still stands where the answer belongs."""


FIRST_VERDICT = (
    "not yet: the program does not do what it should; look for the mistake, and run "
    "this cell again for a hint."
)


def check(function, hint_at_once=True):
    """Make a check, which prints its verdict, of a function of the answers.

    The function returns what a right answer has shown, in a sentence, or raises one of
    the exceptions above. Checks are numbered by chapter in the order of their modules.
    Without `hint_at_once`, the first verdict on a wrong answer is FIRST_VERDICT.
    """
    chapter = int(function.__module__[-2:])
    place = sum(name.startswith(f"{chapter}.") for name in VERDICTS) + 1
    name = f"{chapter}.{place} {function.__name__}"
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
        if answers[-1] is None or answers[-1] is ...:
            raise MissingAnswer
        if answers[0] is None:
            return "not answered yet: the prediction is missing."
        return f"right: {function(*answers)}"
    except MissingAnswer:
        return "not answered yet"
    except WrongAnswer as problem:
        return f"not yet: {problem}"
    except Exception as error:  # the student's code may fail wherever it is used
        return f"not yet: your answer could not be used ({describe_error(error)})."


def summary():
    """Print one line for each check, and the number of checks that are right."""
    for name, verdict in VERDICTS.items():
        print(f"{name:<20} {verdict.split(':')[0]}")
    count = sum(verdict.startswith("right") for verdict in VERDICTS.values())
    print(f"right: {count} of {len(VERDICTS)}")


# ---------------------------------------------------------------- reading answers


def describe_error(error):
    """An exception in one line: its class and the beginning of its message."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))  # Keras sets a part in bold
    text = " ".join(text.split())[:240]
    return f"{type(error).__name__}: {text}"


def call(function, *arguments):
    """What the student's function returns; it gets copies of arrays.

    Raises:
        MissingAnswer: its body is still the placeholder.
        WrongAnswer: it raises, or returns nothing; the message names the cell's line.
    """
    arguments = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    try:
        result = function(*arguments)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if re.search("ipy(kernel|thon-)", f.filename)]
        where = f" in line {lines[-1]} of its cell" if lines else ""
        raise WrongAnswer(
            f"your code raised an error{where} ({describe_error(error)})."
        ) from error
    if result is ...:
        raise MissingAnswer
    if result is None:
        raise WrongAnswer("your function returns nothing: is its return missing?")
    return result


def call_for(count, function, *arguments):
    """What `call` returns, which has to be `count` things: a list or a tuple."""
    result = call(function, *arguments)
    if not isinstance(result, (list, tuple)) or len(result) != count:
        raise WrongAnswer(f"the function should return {count} things.")
    return result


def require_array(value, what="the result"):
    """Anything that holds finite numbers, as a float64 array; messages say `what`."""
    try:
        array = np.asarray(value, "float64")
    except Exception as error:
        raise WrongAnswer(
            f"{what} should be numbers, not {type(value).__name__}."
        ) from error
    if not np.isfinite(array).all():
        raise WrongAnswer(
            f"{what} contains NaN or infinity: look for log(0) or a division by 0."
        )
    return array


def require_shape(value, shape, what="the result"):
    """`require_array(value)` in this shape, give or take an axis of length 1."""
    array = require_array(value, what)
    if array.shape not in (shape, shape + (1,), (1,) + shape):
        raise WrongAnswer(f"{what} should have the shape {shape}, not {array.shape}.")
    return array.reshape(shape)


def require_images(value, n, what="the result"):
    """`require_shape(value, (n, 784))` with values in [0, 1], as float32."""
    images = require_shape(value, (n, 784), what)
    if images.min() < -1e-6 or images.max() > 1 + 1e-6:
        raise WrongAnswer(f"the pixels of {what} are not all in [0, 1].")
    return images.clip(0, 1).astype("float32")


# ---------------------------------------------------------------- comparing


def is_close(a, b, rtol=1e-3, atol=1e-4):
    """Whether two arrays have the same shape and about the same numbers."""
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=rtol, atol=atol))


def is_standard_normal(numbers, tolerance=0.15):
    """Whether mean and width of each column of numbers (n, d) are about 0 and 1."""
    moments = [*numbers.mean(axis=0), *numbers.std(axis=0) - 1]
    return np.abs(moments).max() < tolerance


def diagnose(value, right, mistakes=(), what="the result", rtol=1e-3, atol=1e-4):
    """Compare an answer with the right one, and with what common mistakes give.

    Args:
        value: anything that holds numbers.
        right: the right value, a number or an array.
        mistakes: {hint: the value that this mistake gives}.

    Raises:
        WrongAnswer: it is not right. The message is the first hint whose value it has,
            or says what is wrong with its shape or its size.
    """
    value, right = require_array(value, what), np.asarray(right)
    if is_close(value.squeeze(), right.squeeze(), rtol, atol):
        return
    for hint, wrong in dict(mistakes).items():
        if is_close(value.squeeze(), np.squeeze(wrong), rtol, atol):
            raise WrongAnswer(hint)
    if right.ndim:
        require_shape(value, right.shape, what)
        raise WrongAnswer(f"{what} is wrong.")
    if value.size != 1:
        raise WrongAnswer(f"{what} should be one number.")
    direction = "large" if value.item() > right else "small"
    raise WrongAnswer(f"{what} is too {direction}.")


def refuse(problems):
    """Raise WrongAnswer with the first hint of {hint: whether it applies} that does."""
    for hint, applies in problems.items():
        if applies:
            raise WrongAnswer(hint)


def match_letters(answer, right):
    """Compare an answer with {letter: what is right}; say how many are."""
    if not isinstance(answer, dict) or set(answer) != set(right):
        raise WrongAnswer(f"the answer should have an entry for each of {list(right)}.")
    count = sum(answer[letter] == right[letter] for letter in right)
    if count < len(right):
        raise WrongAnswer(f"{count} of {len(right)} are right.")


def compare_prediction(guess, truth, unit=""):
    """A remark on a prediction, which is never judged."""
    digits = ",.0f" if truth >= 1000 else ".4g"
    result = f"the result is {truth:{digits}}{unit}"
    try:
        return f"you predicted {float(guess):{digits}}{unit}; {result}."
    except (TypeError, ValueError):
        return f"{result}; your prediction is not one number."


# ---------------------------------------------------------------- inputs


@functools.cache
def load_images():
    """The course's sample: 6,000 training images (6000, 784) and their labels."""
    return load_sample()[:2]


@functools.cache
def load_reference():
    """The encoder and decoder of the course's own full run."""
    names = ("vae_encoder", "vae_decoder")
    return [vh.load(course.REFERENCE / f"{name}.keras") for name in names]


def make_posteriors(n, latent_dim=10):
    """Means and log-variances (n, latent_dim), float32, all unlike the prior's."""
    rng = np.random.default_rng(0)
    z_mean = rng.normal(0.3, 1.2, (n, latent_dim))
    z_log_var = rng.uniform(-2.5, 1.0, (n, latent_dim))
    return z_mean.astype("float32"), z_log_var.astype("float32")


def train_briefly(model, x, y):
    """Train for two short epochs, in which the loss has to fall."""
    keras.utils.set_random_seed(0)
    # Without compilation, all of it takes a second or two.
    model.compile(optimizer="adam", run_eagerly=True)
    history = call(model.fit, x, y, 128, 2, 0).history["loss"]
    if not history[1] < history[0]:  # NaN fails this comparison
        raise WrongAnswer("the training loss does not fall in two short epochs.")
