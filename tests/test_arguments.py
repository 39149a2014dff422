"""Wrong arguments are refused in one sentence that names them; right ones pass."""

import keras
import numpy as np
import pytest

import vae_helpers as vh
from course import checkpoints, evaluation, explorer

GOOD = np.random.default_rng(0).random((6, 784), dtype="float32")
CODES = np.random.default_rng(1).normal(size=(60, 10)).astype("float32")


def with_one(value, array=GOOD):
    changed = array.copy()
    changed[2, 3] = value
    return changed


NOT_FINITE = {"nan": np.nan, "infinity": np.inf}
BAD_IMAGES = {
    "pictures": GOOD.reshape(6, 28, 28),
    "one image": GOOD[0],
    "783 pixels": GOOD[:, 1:],
    "none": GOOD[:0],
    "0..255": (255 * GOOD).astype("uint8"),
    "0..255 as floats": 255 * GOOD,
    "zeros and ones as integers": GOOD.round().astype(int),
    "negative": GOOD - 0.5,
    **{name: with_one(value) for name, value in NOT_FINITE.items()},
    "text": np.array([["a"] * 784]),
}
BAD_CODES = {
    "one code": CODES[0],
    "none": CODES[:0],
    **{name: with_one(value, CODES) for name, value in NOT_FINITE.items()},
}
OF_OTHER_SIZE = {"nine": CODES[:, :9], "one": CODES[:, :1]}
BAD_KINDS = {k: BAD_CODES[k] for k in ("one code", "none", "nan")}
MODELS = {}


def model(name):
    """One of the course's models, built once."""
    if name not in MODELS:
        MODELS[name] = (
            evaluation.build_classifier() if name == "classifier" else vh.MODELS[name]()
        )
    return MODELS[name]


def write(x):
    return explorer.write(
        "never.html",
        model("vae_encoder"),
        model("vae_decoder"),
        x,
        np.zeros(len(x), int),
    )


def bound(x, groups=(1, 2)):
    return evaluation.importance_bound(
        model("vae_encoder"), model("vae_decoder"), x, 4, groups
    )


def page(z):
    return explorer.decode({"dimensions": 10, "decoder": []}, z)


CALLERS = [  # functions that leave images to `check_images`, and the argument's name
    (vh.pixel_entropy, "x"),
    (lambda x: vh.mse(x, GOOD), "x"),
    (lambda x: vh.pca_reconstruct(x, GOOD, 2), "x_fit"),
    (lambda x: vh.pca_reconstruct(GOOD, x, 2), "x"),
    (lambda x: evaluation.classify(model("classifier"), x), "x"),
    (bound, "x"),
    (write, "x"),
    (lambda x: explorer.animate(x, "A walk."), "frames"),
]
PIXELS = {
    "0..255 as floats": BAD_IMAGES["0..255 as floats"]
}  # nothing else refuses them
TABLE = [  # a function of one argument, what its sentence calls it, and bad ones
    (vh.check_images, "x", BAD_IMAGES),
    *((function, name, PIXELS) for function, name in CALLERS),
    (lambda x: vh.mse(GOOD, x), "x_hat", {k: BAD_IMAGES[k] for k in ("pictures", "nan", "infinity")}),
    (lambda k: vh.pca_reconstruct(GOOD, GOOD, k), "components", {"none": 0, "785": 785, "a float": 2.0}),
    (lambda z: vh.distance_to_nearest(CODES, z), "others", {
        **BAD_CODES, **OF_OTHER_SIZE, "integers": CODES.astype("uint8")}),
    (lambda z: vh.distance_to_nearest(z, CODES), "codes", {k: BAD_CODES[k] for k in ("one code", "nan")}),
    (lambda x: vh.image_grid([GOOD, x]), "rows", {k: BAD_IMAGES[k] for k in ("one image", "none", "0..255", "nan")}),
    (vh.image_grid, "rows", {"no rows": []}),
    (lambda x: vh.bernoulli_nll(x, x), "x", {"pictures": BAD_IMAGES["pictures"]}),
    (lambda x: vh.bernoulli_nll(GOOD, x), "x_hat", {"783 pixels": GOOD[:, 1:], "one": GOOD[:, :1]}),
    (lambda z: vh.kl_to_prior(CODES, z), "z_log_var", {"one": CODES[:, :1], "one code": CODES[0]}),
    (vh.active_dimensions, "kl", BAD_KINDS),
    (vh.one_of_each, "labels", {"one class": np.zeros(9, int), "one-hot": np.eye(10), "none": np.array([])}),
    (lambda z: evaluation.predict_in_batches(model("vae_decoder"), z), "x", {
        "nine": CODES[:, :9], "none": CODES[:0], "nan": BAD_CODES["nan"]}),
    (lambda z: evaluation.squared_frechet(CODES, z), "b", {
        **BAD_KINDS, "nine": CODES[:, :9], "a single one": CODES[:1]}),
    (lambda z: evaluation.sample_from_mixture(z, 2, 5), "codes", {
        **BAD_KINDS, "fewer than components": CODES[:1]}),
    (lambda groups: bound(GOOD, groups), "groups", {"3 of 4": [1, 3], "none": [0], "8 of 4": [8]}),
    (lambda model: vh.save("never", vae=model), "vae", {"a whole VAE": vh.VAE(None, None)}),
    (page, "z", {"one code": CODES[0], "nine": CODES[:, :9], "nan": BAD_CODES["nan"]}),
    (lambda x: explorer.animate(x, "A walk."), "frames", {"one frame": GOOD[:1]}),
]  # fmt: skip


def cases(table):
    """A parameter for each bad argument of a table."""
    return [
        pytest.param(function, name, bad, id=f"{name}-{i}-{kind}")
        for i, (function, name, bad_ones) in enumerate(table)
        for kind, bad in bad_ones.items()
    ]


def assert_refused(function, name, bad):
    with pytest.raises(ValueError, match=rf"\b{name}\b") as raised:
        function(bad)
    text = str(raised.value)
    assert "\n" not in text and len(text) < 200 and text.endswith(".")


@pytest.mark.parametrize("function, name, bad", cases(TABLE))
def test_bad_argument_is_refused_in_one_sentence_that_names_it(function, name, bad):
    assert_refused(function, name, bad)


def test_state_of_another_model_is_refused(tmp_path):
    (tmp_path / "empty.npz").touch()
    other = vh.build_autoencoder()
    other.compile(optimizer="adam", loss="mse")
    checkpoints.write(tmp_path / "other.npz", other)
    for name in ("empty", "other", "missing"):
        with pytest.raises(
            ValueError,
            match=f"{name}.npz is damaged .*: delete it to restart training",
        ):
            checkpoints.read(tmp_path / f"{name}.npz", evaluation.build_vae()[0])


@pytest.mark.parametrize("which", ["encoder", "decoder"])
def test_explorer_refuses_models_that_have_diverged(which, tmp_path):
    models = {"encoder": vh.build_encoder(), "decoder": vh.build_decoder()}
    layer = models[which].layers[-1]
    layer.set_weights(
        [np.full_like(weights, np.nan) for weights in layer.get_weights()]
    )
    with pytest.raises(ValueError, match=f"{which}.* not finite"):
        explorer.write(tmp_path / "page.html", *models.values(), GOOD, np.arange(6))
    assert not list(tmp_path.iterdir())


def test_explorer_refuses_an_encoder_of_something_else(tmp_path):
    with pytest.raises(ValueError, match="encoder must take images"):
        explorer.write(
            tmp_path / "page.html",
            model("vae_decoder"),
            model("vae_decoder"),
            GOOD,
            np.arange(6),
        )


def test_right_arguments_pass_unchanged(images):
    """The results are those of the formulas without any check, to the last bit."""
    assert vh.check_images(images) is images
    x = np.clip(images, 1e-7, 1 - 1e-7).astype("float64")
    assert vh.pixel_entropy(images) == float(
        -(x * np.log(x) + (1 - x) * np.log(1 - x)).sum(axis=1).mean()
    )
    x_hat = keras.ops.convert_to_tensor(images[::-1].copy())
    assert vh.mse(images, x_hat) == float(
        np.mean(np.square(np.asarray(images, "float64") - x_hat))
    )
    mean = images.mean(axis=0)
    # Once: some BLAS round differently for an array and its own transpose.
    centred = images - mean
    directions = np.linalg.svd(centred.T @ centred)[2][:7]
    assert np.array_equal(
        vh.pca_reconstruct(images, images, 7),
        mean + centred @ directions.T @ directions,
    )
    z_mean, z_log_var = CODES[:30], CODES[30:]
    kl = 0.5 * (keras.ops.square(z_mean) + keras.ops.exp(z_log_var) - 1.0 - z_log_var)
    assert np.array_equal(vh.kl_to_prior(z_mean, z_log_var), kl)
    nll = keras.ops.sum(keras.ops.binary_crossentropy(images, x_hat), axis=-1)
    assert np.array_equal(vh.bernoulli_nll(images, x_hat), nll)
    assert vh.check_images(images * np.float32(1 + 2e-7)) is not None, (
        "interpolated pixels may be a rounding above 1"
    )
