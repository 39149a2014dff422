"""Results are printed beside their ranges; a reader's settings do not change them."""

import importlib

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


def test_settings_of_keras_are_named_and_set_back_on_import(capsys):
    """keras.json of a reader: image_data_format, epsilon, floatx."""
    settings = dict(floatx="float64", epsilon=1e-3, image_data_format="channels_first")
    for name, value in settings.items():
        getattr(keras.config, f"set_{name}")(value)
    importlib.reload(backend)
    found = [getattr(keras.config, name)() for name in settings]
    assert found == ["float32", 1e-7, "channels_last"]
    assert capsys.readouterr().out.count("; the course sets it to") == 3
