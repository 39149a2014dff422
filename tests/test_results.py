"""Results are printed beside their ranges."""

import numpy as np

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
