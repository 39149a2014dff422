"""Results are printed beside their ranges; a reader's settings do not change them."""

import json

import numpy as np
import pytest

import vae_helpers as vh
from course import results

NAME = "VAE, test KL (nats)"
FULL, SHORT = (vh.Data(*[None] * 6, is_full_run=is_full) for is_full in (True, False))


def test_a_result_is_compared_after_a_full_run_only(capsys):
    low, high = results.expected_ranges()[NAME]
    for value, data, verdict in [
        (low, SHORT, "not compared"),
        (low, FULL, "ok"),
        (np.float32(high + 1), FULL, "outside the expected range"),
        (np.nan, FULL, "outside the expected range"),
    ]:
        vh.expect(NAME, value, data)
        assert capsys.readouterr().out.endswith(f"   {verdict}\n")


def test_settings_of_keras_are_named_and_do_not_change_results(run_python, tmp_path):
    """keras.json of a reader: image_data_format, epsilon, floatx."""
    settings = {
        "image_data_format": "channels_first", "epsilon": 1e-3, "floatx": "float64",
        "backend": "tensorflow",
    }  # fmt: skip
    (tmp_path / "keras.json").write_text(json.dumps(settings), encoding="utf-8")
    code = """
import vae_helpers as vh, keras, numpy as np
one = np.ones((1, 1), "float32")
print(float(vh.bernoulli_nll(one, 0 * one)[0]), keras.config.image_data_format())
"""
    ended = run_python(code, KERAS_HOME=str(tmp_path))
    *messages, last = ended.stdout.splitlines()
    assert last.split()[1] == "channels_last", ended.stderr
    assert float(last.split()[0]) == pytest.approx(16.1, abs=0.2)
    assert len(messages) == 3
    assert all("the course sets it to" in line for line in messages)
