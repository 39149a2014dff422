"""The bands of expected results: what they are made of, and how much they can say."""

import copy
import json
import re

import numpy as np

import course
from tools import experiments

RUNS = json.loads(course.EXPERIMENTS.read_text(encoding="utf-8"))["runs"]
EARLY = ("autoencoder", "vae", "vae, 2 dimensions")  # of chapters 01 to 04


def test_no_run_that_is_shown_is_in_its_own_band():
    changed = copy.deepcopy(RUNS)
    for run in changed:
        if (run["name"], run["seed"]) in experiments.SHOWN:
            run["results"] = {name: 1e9 for name in run["results"]}
    assert str(experiments.bands(changed)) == str(experiments.bands(RUNS))


def share_outside(name, results, trials=20_000):
    """The share of new runs with a result outside bands from as many runs as stored.

    Runs are simulated as normal, with the means and covariances of the stored ones.
    """
    runs = [run for run in RUNS if run["name"] == name]
    if len(runs) < 3:
        return 0.0  # not yet trained with other seeds
    values = np.array([[run["results"][key] for key in results] for run in runs], float)
    mean, (n, _) = values.mean(axis=0), values.shape
    others = sum((name, run["seed"]) not in experiments.SHOWN for run in runs)
    noise = mean * [experiments.SAMPLING_NOISE.get(key, 0) for key in results]
    rng = np.random.default_rng(0)
    spread = (values - mean) / np.sqrt(n - 1)
    new = mean + rng.normal(size=(trials, others + 1, n)) @ spread
    is_count = [isinstance(runs[0]["results"][key], int) for key in results]
    new[..., is_count] = np.rint(new[..., is_count])
    band, run = new[:, :-1], new[:, -1]
    margin = 4 * np.hypot(band.std(axis=1, ddof=1), noise)
    return np.mean((np.abs(run - band.mean(axis=1)) > margin + 1e-9).any(axis=1))


def test_results_page_says_how_many_correct_runs_fall_outside_a_band():
    inside = {True: 1.0, False: 1.0}
    for run, (_, results) in experiments.COMPARED.items():
        early = [key for key in results if key not in experiments.SAMPLING_NOISE]
        if run in EARLY:
            inside[True] *= 1 - share_outside(run, early)
        inside[False] *= 1 - share_outside(run, results)
    page = (course.ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    told = re.search(r"simulation .*? (\d+)% of .*? and (\d+)% of", page)
    shares = [round(100 * (1 - part)) for part in inside.values()]
    assert np.allclose(shares, list(map(int, told.groups())), atol=1), shares
