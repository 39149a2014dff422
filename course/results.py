"""Expected results: what a full run should print, and what this run printed.

Results that depend on a seed have a band, the mean +- 4 standard deviations over the
seeds trained for assets/experiments.json. Results that depend on no seed have a
tolerance, +- 0.1%. `expect` compares with either.
"""

import contextlib
import json

import numpy as np

import course
from course.files import write_text


def expected_ranges():
    """{name: (low, high, kind)}, kind "tolerance" or "band", in the order of chapters.

    Raises:
        OSError, ValueError: assets/experiments.json is missing or damaged.
    """
    path = course.EXPERIMENTS
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: (low, high, kind)
            for kind, part in (("tolerance", "tolerances"), ("band", "bands"))
            for name, (low, high) in stored[part].items()
        }
    except OSError as error:
        raise type(error)(
            f"{path} could not be read ({error.strerror}): restore it with git."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is damaged: restore it with git.") from None


def expect(name, value, data):
    """Print a result beside its expected range, and save it in build/results.json.

    After a quick run, or on the sample, the range is printed with "not compared",
    and nothing is saved.
    """
    low, high, kind = expected_ranges()[name]
    shown, expected = format_result(value), format_range(low, high)
    line = f"{name:<42}{shown:>9}   expected {expected}"
    if not data.is_full_run:
        print(f"{line}   not compared")
        return
    inside = bool(low <= value <= high)  # NaN fails this comparison
    print(f"{line}   {'ok' if inside else 'outside the expected range'}")
    path = course.BUILD / "results.json"
    value = int(value) if isinstance(value, (int, np.integer)) else float(value)
    result = {"value": value, "kind": kind, "low": low, "high": high, "ok": inside}
    try:
        write_text(path, json.dumps({**read_results(path), name: result}, indent=1))
    except OSError as error:
        print(error)


def read_results(path):
    """The content of a results.json; empty if the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        results = json.loads(path.read_text(encoding="utf-8"))
        if all({"value", "ok"} <= result.keys() for result in results.values()):
            return results
    return {}


def format_range(low, high):
    """A range as the course prints it: 237.7 to 239.6."""
    return f"{format_result(low)} to {format_result(high)}"


def format_result(number):
    """A number as the course prints it: 239.1, 12.02, 0.01273, or 6 for an integer."""
    if isinstance(number, (int, np.integer)):
        return str(number)
    digits = 1 if abs(number) >= 50 else 2 if abs(number) >= 1 else 5
    return f"{number:.{digits}f}"
