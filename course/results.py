"""Expected results: what a full run should print, and what this run printed.

Results of trained networks have a band, the mean +- 4 standard deviations over the
seeds trained for assets/experiments.json. `expect` prints a result beside it.
"""

import json

import numpy as np

import course


def expected_ranges():
    """The bands {name: (low, high)}, in the order of chapters."""
    stored = json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))
    return {name: (low, high) for name, (low, high) in stored["bands"].items()}


def expect(name, value, data):
    """Print a result beside its expected range, and whether it lies in it.

    After a quick run, or on the sample, the range is printed with "not compared".
    """
    low, high = expected_ranges()[name]
    shown, expected = format_result(value), format_range(low, high)
    if not data.is_full_run:
        verdict = "not compared"
    elif low <= value <= high:  # NaN fails this comparison
        verdict = "ok"
    else:
        verdict = "outside the expected range"
    print(f"{name:<42}{shown:>9}   expected {expected}   {verdict}")


def format_range(low, high):
    """A range as the course prints it: 237.7 to 239.6."""
    return f"{format_result(low)} to {format_result(high)}"


def format_result(number):
    """A number as the course prints it: 239.1, 12.02, 0.01273, or 6 for an integer."""
    if isinstance(number, (int, np.integer)):
        return str(number)
    digits = 1 if abs(number) >= 50 else 2 if abs(number) >= 1 else 5
    return f"{number:.{digits}f}"
