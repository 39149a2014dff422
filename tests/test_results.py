"""Results are printed beside their ranges and none is lost; settings do not matter."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import course
import vae_helpers as vh
from course import results

NAME = "VAE, test KL (nats)"
FULL, SHORT = (vh.Data(*[None] * 6, is_full_run=is_full) for is_full in (True, False))


@pytest.fixture
def path(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "RESULTS", tmp_path / "new" / "results.jsonl")
    return results.RESULTS


def test_a_result_is_compared_after_a_full_run_only(path, capsys):
    low, high = results.expected_ranges()[NAME]
    for value, data, verdict in [
        (low, SHORT, "not compared"),
        (low, FULL, "ok"),
        (np.float32(high + 1), FULL, "outside the expected range"),
        (np.nan, FULL, "outside the expected range"),
    ]:
        vh.expect(NAME, value, data)
        assert capsys.readouterr().out.endswith(f"   {verdict}\n")
    assert len(path.read_text().splitlines()) == 3
    assert results.read_results(path)[NAME]["ok"] is False, "the latest counts"
    assert results.read_results(path.with_name("missing")) == {}


def test_two_processes_at_once_lose_no_result(tmp_path):
    code = f"""
import sys, pathlib
import vae_helpers as vh
from course import results
results.RESULTS = pathlib.Path({str(tmp_path / "results.jsonl")!r})
data = vh.Data(*[None] * 6, is_full_run=True)
names = list(results.expected_ranges())
for i in range(200):
    vh.expect(names[i % 9], float(sys.argv[1]), data)
"""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(course.ROOT)}
    both = [
        subprocess.Popen([*command, n], env=environment, stdout=subprocess.DEVNULL)
        for n in ("1", "2")
    ]
    assert [process.wait() for process in both] == [0, 0]
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    values = [row["value"] for line in lines for row in json.loads(line).values()]
    assert sorted(values) == [1.0] * 200 + [2.0] * 200


def test_settings_of_keras_are_named_and_do_not_change_results(tmp_path):
    """keras.json of a reader: image_data_format, epsilon, floatx."""
    settings = {
        "image_data_format": "channels_first", "epsilon": 1e-3, "floatx": "float64",
        "backend": "tensorflow",
    }  # fmt: skip
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    code = """
import vae_helpers as vh, keras, numpy as np
one = np.ones((1, 1), "float32")
print(float(vh.bernoulli_nll(one, 0 * one)[0]), keras.config.image_data_format())
"""
    environment = {
        **os.environ, "KERAS_HOME": str(tmp_path), "PYTHONPATH": str(course.ROOT),
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    *said, last = ran.stdout.splitlines()
    assert last.split()[1] == "channels_last"
    assert float(last.split()[0]) == pytest.approx(16.1, abs=0.2)
    assert len(said) == 3 and all("the course sets it to" in line for line in said)
