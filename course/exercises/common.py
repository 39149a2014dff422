"""What the checks share: verdicts, comparing answers, inputs."""

import functools
import re
import traceback

import vae_helpers as vh  # isort: skip  (before Keras)

import numpy as np

import course
from course.data import load_sample

VERDICTS = {}  # name of a check, with its number: "3.4 sampling_layer" -> last verdict


class NotRight(Exception):
    """A verdict on an answer that is not right."""


FIRST_VERDICT = (
    "not yet: the program does not do what it should; look for the mistake, and run "
    "this cell again for a hint."
)


def check(function, hint_at_once=True):
    """Make a check, which prints its verdict, of a function of the answers.

    The function returns what a right answer has shown, in a sentence, or raises
    NotRight. Checks are numbered by chapter in the order of their modules. Without
    `hint_at_once`, the first verdict on a wrong answer is FIRST_VERDICT.
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
    if answers[-1] is None or answers[-1] is ...:
        return "not answered yet"
    if answers[0] is None:
        return "not answered yet: the prediction is missing."
    try:
        return f"right: {function(*answers)}"
    except NotRight as verdict:
        return str(verdict)
    except Exception as error:  # the student's code may fail wherever it is used
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if re.search("ipy(kernel|thon-)", f.filename)]
        where = f" in line {lines[-1]} of its cell" if lines else ""
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return f"not yet: your answer raised an error{where} ({text})."


def summary():
    """Print one line for each check, and the number of checks that are right."""
    for name, verdict in VERDICTS.items():
        print(f"{name:<20} {verdict.split(':')[0]}")
    count = sum(verdict.startswith("right") for verdict in VERDICTS.values())
    print(f"right: {count} of {len(VERDICTS)}")


def call(function, *arguments, **options):
    """What the student's function returns; it gets copies of arrays."""
    arguments = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    result = function(*arguments, **options)
    if result is ...:
        raise NotRight("not answered yet")
    refuse({"your function returns nothing: is its return missing?": result is None})
    return result


def refuse(problems):
    """Raise NotRight with the first hint of {hint: whether it applies} that does."""
    for hint, applies in problems.items():
        if applies:
            raise NotRight(f"not yet: {hint}")


def require_array(value, shape, what="the result"):
    """Anything that holds finite numbers, as a float64 array of this shape.

    Axes of length 1 do not matter. Messages say `what`.
    """
    array = np.asarray(value, "float64")
    lengths = tuple(length for length in shape if length != 1)
    wanted = f"have the shape {shape}" if shape else "be one number"
    hint = f"{what} should {wanted}, not {array.shape}."
    refuse({hint: np.squeeze(array).shape != lengths})
    hint = f"{what} contains NaN or infinity: look for log(0) or a division by 0."
    refuse({hint: not np.isfinite(array).all()})
    return array.reshape(shape)


def require_images(value, n, what="the result"):
    """`require_array(value, (n, 784))` with values in [0, 1], as float32."""
    array = require_array(value, (n, 784), what)
    try:
        return vh.check_images(array, what).clip(0, 1).astype("float32")
    except ValueError as error:
        raise NotRight(f"not yet: {error}") from error


def is_close(a, b, rtol=1e-3, atol=1e-4):
    """Whether two arrays have the same shape and about the same numbers."""
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=rtol, atol=atol)


def is_standard_normal(numbers, tolerance=0.15):
    """Whether numbers (n, d) have about the mean and the covariance of N(0, I)."""
    error = np.cov(numbers.T) - np.eye(numbers.shape[1])
    return max(abs(numbers.mean(axis=0)).max(), abs(error).max()) < tolerance


def diagnose(value, right, mistakes=(), what="the result", rtol=1e-3, atol=1e-4):
    """Refuse a value that is not the right one, both numbers or arrays.

    Of `mistakes`, {hint: the value that this mistake gives}, the message is the first
    hint whose value it is; otherwise it says what is wrong with its shape or its size.
    """
    value = require_array(value, np.shape(right), what)
    if not is_close(value, right, rtol, atol):
        for hint, wrong in dict(mistakes).items():
            refuse({hint: is_close(value, wrong, rtol, atol)})
        on_average = ", on average," if value.ndim else ""
        direction = "large" if value.mean() > np.mean(right) else "small"
        raise NotRight(f"not yet: {what} is{on_average} too {direction}.")


def match_letters(answer, right):
    """Compare an answer with {letter: what is right}; say how many are."""
    hint = f"the answer should have an entry for each of {list(right)}."
    refuse({hint: not isinstance(answer, dict) or set(answer) != set(right)})
    count = sum(answer[letter] == right[letter] for letter in right)
    refuse({f"{count} of {len(right)} are right.": count < len(right)})


@functools.cache
def load_images():
    """The course's sample: 6,000 training images (6000, 784) and their labels."""
    return load_sample()[:2]


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
