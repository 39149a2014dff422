"""Results are printed beside their ranges."""

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import numpy as np

from course import backend, results

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


def test_a_readers_settings_of_keras_are_named_and_set_back(capsys):
    keras.config.set_epsilon(1e-3)
    backend.use_defaults()
    assert keras.config.epsilon() == 1e-7
    assert "epsilon was 0.001; the course sets it to 1e-07" in capsys.readouterr().out
