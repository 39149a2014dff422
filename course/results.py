"""Expected results: what a full run should print, and what this run printed.

Results of trained networks have a band, the mean +- 4 standard deviations over the
seeds trained for assets/experiments.json. Print a result beside it, and append it to
`RESULTS`, by `expect`.
"""

import json

import numpy as np

import course
from course.files import write_errors

RESULTS = course.BUILD / "results.jsonl"  # one line a result, in the order of runs


def expected_ranges():
    """The bands {name: (low, high)}, in the order of chapters.

    Raises:
        OSError, ValueError: assets/experiments.json is missing or damaged.
    """
    path = course.EXPERIMENTS
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {name: (low, high) for name, (low, high) in stored["bands"].items()}
    except OSError as error:
        raise type(error)(
            f"{path} could not be read ({error.strerror}): restore it with git."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: restore it with git.") from error


def expect(name, value, data):
    """Print a result beside its expected range, and append it to `RESULTS`.

    After a quick run, or on the sample, the range is printed with "not compared",
    and nothing is saved.
    """
    low, high = expected_ranges()[name]
    shown, expected = format_result(value), format_range(low, high)
    line = f"{name:<42}{shown:>9}   expected {expected}"
    if not data.is_full_run:
        print(f"{line}   not compared")
        return
    inside = bool(low <= value <= high)  # NaN fails this comparison
    print(f"{line}   {'ok' if inside else 'outside the expected range'}")
    result = {"value": value, "low": low, "high": high, "ok": inside}
    line = json.dumps({name: result}, default=lambda number: number.item())
    try:
        with write_errors(RESULTS), RESULTS.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")  # one call: notebooks may run side by side
    except OSError as error:
        print(error)


def read_results(path):
    """The results in a file that `expect` wrote, the latest of each name, {} if none.

    {name: {"value": ..., "low": ..., "high": ..., "ok": ...}}
    """
    results = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            results.update(json.loads(line))
    return results


def format_range(low, high):
    """A range as the course prints it: 237.7 to 239.6."""
    return f"{format_result(low)} to {format_result(high)}"


def format_result(number):
    """A number as the course prints it: 239.1, 12.02, 0.01273, or 6 for an integer."""
    if isinstance(number, (int, np.integer)):
        return str(number)
    digits = 1 if abs(number) >= 50 else 2 if abs(number) >= 1 else 5
    return f"{number:.{digits}f}"
