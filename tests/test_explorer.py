"""The explorer decodes as Keras does, loads nothing from elsewhere, and is accessible.

test_browser.py tests its page in a browser.
"""

import base64
import io
import json
import math
import re
import sys
import types

import keras
import nbformat
import numpy as np
import pytest
from PIL import Image

import course
import vae_helpers as vh
from course import explorer
from course.data import load_sample
from tools.pages import embed_explorers
from tools.refresh import repository, strip_explorer

# Because weights have 8 bits, a pixel in [0, 1] may differ from Keras' by this much.
# Measured with the reference models: 0.077 to 0.082, on average 0.0021.
ROUNDING, MEAN_ROUNDING = 0.1, 0.003
# Codes other than those on which `write` compares.
DRAWS = np.random.default_rng(784).normal(size=(200, 10)).astype("float32")


@pytest.fixture(scope="module")
def test_set():
    """The sample's 1,000 test images (1000, 784) and their labels (1000,)."""
    return load_sample()[2:]


@pytest.fixture(scope="module")
def reference():
    """The reference encoder and decoder."""
    names = ("vae_encoder", "vae_decoder")
    return [vh.load(course.REFERENCE / f"{name}.keras") for name in names]


@pytest.fixture(scope="module")
def path(tmp_path_factory, reference, test_set):
    """The reference models' page."""
    path = tmp_path_factory.mktemp("explorer") / "new" / "explorer.html"
    return explorer.write(path, *reference, *test_set)


@pytest.fixture
def outputs(monkeypatch):
    """What is displayed, as the outputs of a notebook's cell (a list)."""
    outputs = []

    def display(data, raw, metadata):
        assert raw
        outputs.append(nbformat.v4.new_output("display_data", data, metadata=metadata))

    monkeypatch.setattr(explorer, "display", display)
    return outputs


def notebook_with(outputs):
    """A valid notebook of one cell, which has these outputs."""
    cell = nbformat.v4.new_code_cell(
        "explorer.show(page)", outputs=outputs, execution_count=1
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbformat.validate(notebook)
    return notebook


def stored_arrays(layer):
    """A layer's kernel (inputs, units), scale (units,) and bias (units,), decoded."""
    kernel, scale, bias = (
        np.frombuffer(base64.b64decode(layer[name]), kind).astype("float64")
        for name, kind in (("kernel", "i1"), ("scale", "<f4"), ("bias", "<f4"))
    )
    return kernel.reshape(-1, len(scale)), scale, bias


def decode_by_hand(model, z):
    """Images (n, 784) of codes z (n, d), in float64, from what the page holds."""
    functions = {
        "linear": lambda a: a,
        "relu": lambda a: np.maximum(a, 0),
        "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
        "tanh": np.tanh,
        "gelu": lambda a: 0.5 * a * (1 + np.vectorize(math.erf)(a / 2**0.5)),
    }
    for layer in model["layers"]:
        kernel, scale, bias = stored_arrays(layer)
        z = functions[layer["activation"]](z @ (kernel * scale) + bias)
    return z


# ---------------------------------------------------------------- the page


def test_page_decodes_as_keras_does(path, reference):
    model = explorer.read(path)
    by_hand = decode_by_hand(model, DRAWS)
    error = np.abs(by_hand - reference[1](DRAWS))
    print(
        "\npixel difference between page and Keras on 200 draws: "
        f"largest {error.max():.4f}, mean {error.mean():.5f}"
    )
    assert error.max() < ROUNDING and error.mean() < MEAN_ROUNDING
    assert np.allclose(explorer.decode(model, DRAWS), by_hand, atol=1e-5)


def test_page_states_its_largest_difference_from_keras(path, reference):
    model = explorer.read(path)
    z = np.random.default_rng(vh.SEED).normal(size=(model["draws"], 10))
    z = z.astype("float32")
    largest = np.abs(decode_by_hand(model, z) - reference[1](z)).max()
    stated = float(f"{model['difference']:.3f}")  # as the page prints it
    assert model["draws"] == 200 and stated == model["difference"]
    assert largest <= stated < largest + 0.0011
    assert stated < ROUNDING


def test_weights_are_rounded_to_int8_with_a_scale_for_each_column(path, reference):
    dense_layers = reference[1].layers[1:]
    stored_layers = explorer.read(path)["layers"]
    assert len(stored_layers) == len(dense_layers) == 4
    for stored, layer in zip(stored_layers, dense_layers):
        kernel, bias = layer.get_weights()
        rounded, scale, stored_bias = stored_arrays(stored)
        assert np.array_equal(np.abs(rounded).max(axis=0), np.full(len(scale), 127))
        assert (np.abs(rounded * scale - kernel) <= 0.5001 * scale).all()
        assert np.array_equal(stored_bias, bias)


@pytest.mark.filterwarnings("error::RuntimeWarning")  # a division by zero
def test_column_of_zeros_stays_zero(test_set, tmp_path):
    decoder = dense(keras.layers.Dense(784, activation="sigmoid"))
    kernel, bias = decoder.get_weights()
    kernel[:, 5] = 0
    decoder.set_weights([kernel, bias])
    path = explorer.write(tmp_path / "p.html", encode_in(10), decoder, *test_set)
    assert np.all(explorer.decode(explorer.read(path), DRAWS)[:, 5] == 0.5)


def dense(*layers, dimensions=10):
    """A decoder of these layers."""
    return keras.Sequential([keras.Input((dimensions,)), *layers])


def encode_in(dimensions):
    """An encoder whose approximate posterior is the prior, for every image."""
    return lambda x: [np.zeros((len(x), dimensions), "float32")] * 2


@pytest.mark.parametrize(
    "dimensions, activation",
    [(2, "gelu"), (3, "sigmoid"), (16, "linear"), (16, "tanh")],
)
def test_other_decoders_have_pages_too(dimensions, activation, test_set, tmp_path):
    keras.utils.set_random_seed(2)
    decoder = dense(
        keras.layers.Dense(32, activation=activation, use_bias=False),
        keras.layers.Dense(784, activation="sigmoid"),
        dimensions=dimensions,
    )
    encoder = encode_in(dimensions)
    model = explorer.read(
        explorer.write(tmp_path / "p.html", encoder, decoder, *test_set)
    )
    z = np.resize(DRAWS, (100, dimensions))
    assert len(model["kl"]) == dimensions
    assert np.abs(decode_by_hand(model, z) - decoder(z)).max() < 0.02


def test_page_loads_nothing_from_elsewhere(path):
    page = path.read_text(encoding="utf-8")
    assert len(page) < 1_300_000
    loads = r"\bsrc=|@import|url\(|\bfetch\b|XMLHttpRequest|importScripts|WebSocket"
    assert not re.search(f"https?:|{loads}", page)
    assert re.findall(r'\bhref="([^"]*)"', page) == ["data:,"]
    assert "default-src 'none'" in page  # the browser enforces it
    assert "{{" not in page


def test_kl_decides_which_dimensions_are_inactive(path, reference, test_set):
    model = explorer.read(path)
    kl = np.asarray(vh.kl_to_prior(*reference[0](test_set[0]))).mean(axis=0)
    assert np.allclose(model["kl"], kl, atol=1e-5)
    inactive = sum(np.array(model["kl"]) <= model["threshold"])
    assert 0 < inactive == 10 - vh.active_dimensions(kl[None])


def test_two_garments_of_each_class_can_be_selected(path, reference, test_set):
    x, labels = test_set
    garments = explorer.read(path)["garments"]
    assert [g["name"] for g in garments] == [
        f"{name} {number}" for name in vh.CLASS_NAMES for number in (1, 2)
    ]
    firsts = np.array([g["z"] for g in garments])[::2]
    assert np.allclose(firsts, reference[0](x[vh.one_of_each(labels)])[0], atol=1e-3)


def test_title_is_text_and_not_markup(test_set, tmp_path):
    decoder, title = dense(keras.layers.Dense(784)), "a <b> & {{model}}"
    path = tmp_path / "p.html"
    explorer.write(path, encode_in(10), decoder, *test_set, title=title)
    page = path.read_text("utf-8")
    assert "<title>a &lt;b&gt; &amp; " in page and page.count("</script>") == 2


def with_a_shared_layer():
    """A decoder that uses one of its Dense layers twice."""
    z = keras.Input((10,))
    shared = keras.layers.Dense(10, activation="relu", name="shared")
    return keras.Model(z, keras.layers.Dense(784)(shared(shared(z))))


REFUSED_DECODERS = {
    "reshape": (
        lambda: dense(keras.layers.Reshape((1, 1, 10))),
        "must consist of Dense layers; .* is of type Reshape",
    ),
    "latent": (
        lambda: dense(keras.layers.Dense(784), dimensions=7),
        "takes 7 inputs, but gets 10",
    ),
    "pixels": (
        lambda: dense(keras.layers.Dense(100)),
        "images of 784 pixels, not 100",
    ),
    "swish": (
        lambda: dense(keras.layers.Dense(784, activation="swish")),
        "has the activation silu; the page supports linear, relu",
    ),
    "shared layer": (
        with_a_shared_layer,
        "decoder must compute its Dense layers in sequence",
    ),
    "function": (
        lambda: np.tanh,
        "must consist of Dense layers; 'decoder' is of type ufunc",
    ),
}


@pytest.mark.parametrize("name", REFUSED_DECODERS)
def test_decoder_that_the_page_cannot_hold_is_refused(name, test_set, tmp_path):
    build, message = REFUSED_DECODERS[name]
    with pytest.raises(ValueError, match=message):
        explorer.write(tmp_path / "p.html", encode_in(10), build(), *test_set)
    assert not list(tmp_path.iterdir())


WRONG_ARGUMENTS = {  # encoder, decoder, images and labels, one of them changed
    "length": (
        lambda e, d, x, y: (e, d, x, y[:-1]),
        r"labels must be 1000 classes .* got the shape \(999,\)",
    ),
    "classes": (
        lambda e, d, x, y: (e, d, x, y + 1),
        "labels must be 1000 classes from 0 to 9",
    ),
    "shape": (
        lambda e, d, x, y: (e, d, x.reshape(-1, 28, 28), y),
        r"x must be images \(n, 784\), not .*28, 28",
    ),
    "empty": (
        lambda e, d, x, y: (e, d, x[:0], y[:0]),
        "x must be images",
    ),
    "autoencoder": (
        lambda e, d, x, y: (lambda x: e(x)[0], d, x, y),
        "encoder must return z_mean and z_log_var",
    ),
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_wrong_argument_is_named(name, reference, test_set, tmp_path):
    change, message = WRONG_ARGUMENTS[name]
    with pytest.raises(ValueError, match=message):
        explorer.write(tmp_path / "p.html", *change(*reference, *test_set))


def test_only_pages_of_the_explorer_are_read(tmp_path):
    other = tmp_path / "other.html"
    other.write_text("<p>Hello")
    message = "other.html is not a page that explorer.write made"
    with pytest.raises(ValueError, match=message):
        explorer.read(other)
    with pytest.raises(FileNotFoundError):
        explorer.show(tmp_path / "none.html")


# ---------------------------------------------------------------- in a notebook


def test_stored_notebook_holds_a_picture_and_a_link(path, outputs):
    explorer.show(path)
    executed = json.dumps(notebook_with(outputs))
    assert "srcdoc" in executed and len(executed) < 1_300_000
    stored = strip_explorer(notebook_with(outputs))
    nbformat.validate(stored)
    text = json.dumps(stored)
    assert len(text) < 80_000 and "iframe" not in text and "script" not in text
    picture, link = stored.cells[0].outputs
    png = io.BytesIO(base64.b64decode(picture.data["image/png"]))
    assert Image.open(png).width > 400
    assert f'href="{repository()}#run-it"' in link.data["text/html"]
    readme = (course.ROOT / "README.md").read_text(encoding="utf-8")
    assert "\n## Run it\n" in readme, "README.md lacks the heading of the link"
    assert json.dumps(strip_explorer(stored)) == text, "stripping twice changes it"


def test_alternative_text_names_the_inactive_dimensions(
    path, outputs, test_set, tmp_path
):
    explorer.show(path)
    codes = lambda x: [np.ones((len(x), 10), "float32")] * 2  # noqa: E731
    decoder = dense(keras.layers.Dense(784))
    explorer.show(explorer.write(tmp_path / "p.html", codes, decoder, *test_set))
    inactive, active = (output.metadata["image/png"]["alt"] for output in outputs)
    assert "10 sliders" in inactive and "10 sliders" in active
    assert re.search(r"; inactive dimensions: \d, \d, \d, \d\.$", inactive)
    assert active.endswith("; no dimension is inactive.")


def test_rendered_page_takes_the_explorer_from_its_file(path, outputs):
    explorer.show(path)
    executed = notebook_with(outputs)
    stored = strip_explorer(notebook_with(outputs))
    for notebook in (executed, stored):
        assert embed_explorers(notebook, path.parent) == [path]
        frame = notebook.cells[0].outputs[0].data["text/html"]
        assert ' src="explorer.html"' in frame and "srcdoc" not in frame
        assert ' title="' in frame
        assert len(notebook.cells[0].outputs) == 1, "the link to run it remains"


def test_stored_notebook_without_the_explorer_page_keeps_its_picture(
    path, outputs, tmp_path
):
    explorer.show(path)
    stored = strip_explorer(notebook_with(outputs))
    before = json.dumps(stored)
    assert embed_explorers(stored, tmp_path) == []
    assert json.dumps(stored) == before


def test_other_outputs_stay_as_they_are():
    link = nbformat.v4.new_output("display_data", {"text/html": '<a href="x">y</a>'})
    text = nbformat.v4.new_output("stream", text="hello")
    notebook = notebook_with([link, text])
    notebook.cells.append(nbformat.v4.new_markdown_cell("# Title"))
    before = json.dumps(notebook)
    assert embed_explorers(notebook, ".") == [] and json.dumps(notebook) == before
    assert json.dumps(strip_explorer(notebook)) == before


def test_colab_gets_the_frame_alone(path, outputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    explorer.show(path)
    assert [set(output.data) for output in outputs] == [{"text/html", "text/plain"}]


def test_frame_is_higher_for_more_dimensions():
    heights = [
        int(re.search(r"height: (\d+)px", explorer.iframe('src="p"', d))[1])
        for d in (2, 10, 30)
    ]
    assert heights[0] < heights[1] < heights[2]
    assert '"Explorer of the latent space"' in explorer.iframe('src="p"', 2)


# ---------------------------------------------------------------- animation


def test_animation_plays_forward_and_backward_and_stays_small(path, outputs):
    model = explorer.read(path)
    a, b = (np.array(model["garments"][i]["z"]) for i in (2, 16))
    frames = explorer.decode(model, a + np.linspace(0, 1, 31)[:, None] * (b - a))
    alt = "From trousers to a bag."
    explorer.animate(frames, alt)
    file = base64.b64decode(outputs[0].data["image/png"])
    assert len(file) < 150_000
    assert outputs[0].metadata["image/png"]["alt"] == alt
    animation = Image.open(io.BytesIO(file))
    assert animation.is_animated and animation.n_frames == 60
    assert animation.info["loop"] == 0
    expected = np.rint(frames * 255).astype("uint8")
    for number, frame in [(0, 0), (17, 17), (30, 30), (31, 29), (59, 1)]:
        animation.seek(number)
        sheet = np.asarray(animation.convert("L"))
        assert np.array_equal(sheet[2:170:6, :168:6].ravel(), expected[frame])
        assert np.array_equal(sheet[0:84:3, 180:264:3].ravel(), expected[0])
        assert np.array_equal(sheet[88:172:3, 620:704:3].ravel(), expected[-1])


@pytest.mark.parametrize("shape", [(1, 784), (5, 28, 28)])
def test_animation_of_something_else_is_refused(shape, outputs):
    with pytest.raises(ValueError, match="frames must be (two or more )?images"):
        explorer.animate(np.zeros(shape), "nothing")
    assert not outputs
