"""Wrong arguments of vae_helpers are refused in one sentence that names them."""

import numpy as np
import pytest

import vae_helpers as vh

GOOD = np.random.default_rng(0).random((6, 784), dtype="float32")
CODES = np.random.default_rng(1).normal(size=(60, 10)).astype("float32")
NAN = np.where(GOOD > 0.99, np.nan, GOOD)
BAD_IMAGES = {
    "pictures": GOOD.reshape(6, 28, 28),
    "one image": GOOD[0],
    "783 pixels": GOOD[:, 1:],
    "none": GOOD[:0],
    "0..255": (255 * GOOD).astype("uint8"),
    "0..255 as floats": 255 * GOOD,
    "negative": GOOD - 0.5,
    "nan": NAN,
}
PIXELS = {"0..255": 255 * GOOD}
NARROW = {"783 pixels": GOOD[:, 1:], "one": GOOD[:, :1]}
BAD_CODES = {"one code": CODES[0], "none": CODES[:0], "nan": np.full((9, 10), np.nan)}
OTHERS = {**BAD_CODES, "nine": CODES[:, :9], "integers": CODES.astype("uint8")}

TABLE = [  # a function of one argument, what its sentence calls it, and bad ones
    (vh.check_images, "x", BAD_IMAGES),
    (vh.pixel_entropy, "x", PIXELS),
    (lambda x: vh.mse(x, GOOD), "x", PIXELS),
    (lambda x: vh.mse(GOOD, x), "x_hat", {"nan": NAN, **NARROW}),
    (lambda x: vh.pca_reconstruct(x, GOOD, 2), "x_fit", PIXELS),
    (lambda k: vh.pca_reconstruct(GOOD, GOOD, k), "components", {"0": 0, "2.0": 2.0}),
    (lambda z: vh.distance_to_nearest(CODES, z), "others", OTHERS),
    (lambda x: vh.bernoulli_nll(x, x), "x", {"pictures": GOOD.reshape(6, 28, 28)}),
    (lambda x: vh.bernoulli_nll(GOOD, x), "x_hat", NARROW),
    (lambda z: vh.kl_to_prior(CODES, z), "z_log_var", {"one": CODES[:, :1]}),
    (vh.active_dimensions, "kl", BAD_CODES),
]
CASES = [
    pytest.param(function, name, bad, id=f"{name}-{i}-{kind}")
    for i, (function, name, bad_ones) in enumerate(TABLE)
    for kind, bad in bad_ones.items()
]


@pytest.mark.parametrize("function, name, bad", CASES)
def test_bad_argument_is_refused_in_one_sentence_that_names_it(function, name, bad):
    with pytest.raises(ValueError, match=rf"\b{name}\b") as raised:
        function(bad)
    text = str(raised.value)
    assert "\n" not in text and len(text) < 200 and text.endswith(".")


def test_interpolated_pixels_may_be_a_rounding_above_1():
    vh.check_images(np.minimum(GOOD * np.float32(1 + 2e-7), 1 + 2e-7))
