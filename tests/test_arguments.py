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


def fit(x, y="x", decoder=None, **arguments):
    """A training of a VAE that is never begun."""
    return refused(
        vh.VAE(model("vae_encoder"), decoder or model("vae_decoder")),
        "mse",
        x,
        y,
        **arguments,
    )


def fit_classifier(x, y):
    return refused(model("classifier"), "sparse_categorical_crossentropy", x, y)


def fit_autoencoder(y, loss="mse"):
    return refused(model("autoencoder"), loss, GOOD, y)


def refused(trained, loss, x, y, **arguments):
    trained.compile(loss=loss)
    return vh.fit(
        trained, x, x if isinstance(y, str) else y, epochs=1, verbose=0, **arguments
    )


def page(z):
    return explorer.decode({"kl": [0.0] * 10, "layers": []}, z)


TABLE = [  # a function of one argument, what its sentence calls it, and bad ones
    (vh.check_images, "x", BAD_IMAGES),
    (vh.pixel_entropy, "x", BAD_IMAGES),
    (lambda x: vh.mse(x, GOOD), "x", BAD_IMAGES),
    (lambda x: vh.mse(GOOD, x), "x_hat", {k: BAD_IMAGES[k] for k in ("pictures", "one image", "nan", "infinity")}),
    (lambda x: vh.pca_reconstruct(x, GOOD, 2), "x_fit", BAD_IMAGES),
    (lambda x: vh.pca_reconstruct(GOOD, x, 2), "x", BAD_IMAGES),
    (lambda k: vh.pca_reconstruct(GOOD, GOOD, k), "components", {"none": 0, "785": 785, "a float": 2.0}),
    (fit, "x", BAD_IMAGES),
    (lambda x: fit(GOOD, validation_data=(x, x)), "x", BAD_IMAGES),
    (lambda x: fit(GOOD, validation_data=x), "validation_data", {"images alone": GOOD}),
    (lambda y: fit(GOOD, y), "y", {k: BAD_IMAGES[k] for k in ("0..255", "0..255 as floats", "negative", *NOT_FINITE)}),
    (lambda x: fit_classifier(x, np.zeros(6, int)), "x", {
        name: BAD_IMAGES[name] for name in ("pictures", "0..255", *NOT_FINITE)}),
    (lambda y: fit_classifier(GOOD, y), "y", {
        "fewer": np.zeros(5, int), "more": np.zeros(7, int), "missing": None, "an eleventh class": 2 * np.arange(6),
        "negative": np.arange(6) - 1, "nan": np.array([0, 1, 2, 3, 4, np.nan])}),
    (fit_autoencoder, "y", {
        "labels": np.arange(6), "one pixel": GOOD[:, :1], "missing": None,
        **{name: BAD_IMAGES[name] for name in NOT_FINITE}}),
    (lambda y: fit_autoencoder(y, "binary_crossentropy"), "y", {"0..255": BAD_IMAGES["0..255"]}),
    (lambda size: fit(GOOD, batch_size=size), "batch_size", {
        "none": 0, "less than none": -1, "missing": None, "a float": 32.0}),
    (lambda size: fit(GOOD, decoder=vh.build_decoder(size)), "codes", {"of five": 5}),
    (lambda z: vh.distance_to_nearest(CODES, z), "others", {
        **BAD_CODES, **OF_OTHER_SIZE, "integers": CODES.astype("uint8")}),
    (lambda z: vh.distance_to_nearest(z, CODES), "codes", {k: BAD_CODES[k] for k in ("one code", *NOT_FINITE)}),
    (lambda x: vh.image_grid([GOOD, x]), "rows", {k: v for k, v in BAD_IMAGES.items() if k in (
        "one image", "none", "0..255", "0..255 as floats", "nan", "infinity")}),
    (vh.image_grid, "rows", {"no rows": []}),
    (lambda x: vh.bernoulli_nll(x, x), "x", {"pictures": BAD_IMAGES["pictures"]}),
    (lambda x: vh.bernoulli_nll(GOOD, x), "x_hat", {"783 pixels": GOOD[:, 1:], "one": GOOD[:, :1]}),
    (lambda z: vh.kl_to_prior(CODES, z), "z_log_var", {**OF_OTHER_SIZE, "one code": CODES[0]}),
    (vh.active_dimensions, "kl", BAD_CODES),
    (vh.one_of_each, "labels", {"one class": np.zeros(9, int), "one-hot": np.eye(10), "none": np.array([])}),
    (lambda x: evaluation.classify(model("classifier"), x), "x", BAD_IMAGES),
    (lambda z: evaluation.predict_in_batches(model("vae_decoder"), z), "x", {**BAD_CODES, **OF_OTHER_SIZE}),
    (lambda z: evaluation.squared_frechet(CODES, z), "b", {**BAD_CODES, **OF_OTHER_SIZE, "a single one": CODES[:1]}),
    (lambda z: evaluation.sample_from_mixture(z, 2, 5), "codes", {**BAD_CODES, "fewer than components": CODES[:1]}),
    (bound, "x", BAD_IMAGES),
    (lambda groups: bound(GOOD, groups), "groups", {"3 of 4": [1, 3], "none": [0], "8 of 4": [8]}),
    (lambda model: vh.save("never", vae=model), "vae", {"a whole VAE": vh.VAE(None, None)}),
    (write, "x", BAD_IMAGES),
    (page, "z", {**{k: BAD_CODES[k] for k in ("one code", *NOT_FINITE)}, **OF_OTHER_SIZE}),
    (lambda x: explorer.animate(x, "A walk."), "frames", {**BAD_IMAGES, "one frame": GOOD[:1]}),
]  # fmt: skip
CASES = [
    (*row[:2], bad, f"{row[1]}-{i}-{name}")
    for i, row in enumerate(TABLE)
    for name, bad in row[2].items()
]


@pytest.mark.parametrize(
    "function, name, bad", [pytest.param(*case[:3], id=case[3]) for case in CASES]
)
def test_bad_argument_is_refused_in_one_sentence_that_names_it(function, name, bad):
    with pytest.raises(ValueError, match=rf"\b{name}\b") as raised:
        function(bad)
    text = str(raised.value)
    assert "\n" not in text and len(text) < 200 and text.endswith(".")


def test_state_of_another_model_is_refused(tmp_path):
    (tmp_path / "empty.npz").touch()
    other = vh.build_autoencoder()
    other.compile(optimizer="adam", loss="mse")
    checkpoints.write(tmp_path / "other.npz", other)
    for name in ("empty", "other", "missing"):
        with pytest.raises(
            ValueError,
            match=f"{name}.npz is damaged .*: delete it, and the training begins anew",
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
    """To the last bit what the formulas give without any check."""
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
    centred = (
        images - mean
    )  # once: of an array and its own transpose, some processors' BLAS rounds otherwise
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
