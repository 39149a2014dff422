"""The explorer computes what Keras computes, needs nothing from elsewhere, and can be used by all."""

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
from tools import refresh

ROUNDING = 0.05  # how far a pixel may be off, in [0, 1], because weights have 8 bits; measured: 0.02 to 0.04
DRAWS = (
    np.random.default_rng(784).normal(size=(200, 10)).astype("float32")
)  # not those that `write` rounds for


@pytest.fixture(scope="module")
def test_set():
    """The sample's 1,000 test images (1000, 784) and their labels (1000,)."""
    return load_sample()[2:]


@pytest.fixture(scope="module")
def reference():
    """The course's own encoder and decoder."""
    return [
        vh.load(course.REFERENCE / f"{name}.keras")
        for name in ("vae_encoder", "vae_decoder")
    ]


@pytest.fixture(scope="module")
def path(tmp_path_factory, reference, test_set):
    """The reference models' page."""
    return explorer.write(
        tmp_path_factory.mktemp("explorer") / "new" / "explorer.html",
        *reference,
        *test_set,
    )


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, as the outputs of a notebook's cell."""
    outputs = []

    def display(data, raw, metadata):
        assert raw
        outputs.append(nbformat.v4.new_output("display_data", data, metadata=metadata))

    monkeypatch.setattr(explorer, "display", display)
    return outputs


def notebook_with(outputs):
    cell = nbformat.v4.new_code_cell(
        "explorer.show(page)", outputs=outputs, execution_count=1
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbformat.validate(notebook)
    return notebook


def by_hand(model, z):
    """The page's decoder, written anew from what is in the page."""
    functions = {
        "relu": lambda a: np.maximum(a, 0), "sigmoid": lambda a: 1 / (1 + np.exp(-a)), "linear": lambda a: a,
        "tanh": np.tanh, "gelu": lambda a: 0.5 * a * (1 + np.vectorize(math.erf)(a / 2**0.5)),
    }  # fmt: skip
    for layer in model["layers"]:
        kernel, scale, bias = (
            np.frombuffer(base64.b64decode(layer[name]), dtype).astype("float64")
            for name, dtype in (("kernel", "i1"), ("scale", "<f4"), ("bias", "<f4"))
        )
        z = functions[layer["activation"]](
            z @ (kernel.reshape(-1, len(scale)) * scale) + bias
        )
    return z


# ---------------------------------------------------------------- the page


def test_page_decodes_as_keras_does(path, reference):
    model = explorer.read(path)
    error = np.abs(by_hand(model, DRAWS) - reference[1](DRAWS))
    print(
        f"\nlargest pixel difference from Keras on 200 draws: {error.max():.4f}, mean {error.mean():.5f}"
    )
    assert error.max() < ROUNDING and error.mean() < 0.002
    assert np.allclose(explorer.decode(model, DRAWS), by_hand(model, DRAWS), atol=1e-5)
    assert 0 < model["difference"] < ROUNDING


def test_weights_that_make_up_for_each_other_beat_plain_rounding(path, reference):
    x = DRAWS
    for layer in reference[1].layers[1:]:
        kernel, bias = layer.get_weights()
        scale = np.abs(kernel).max(axis=0) / 127
        x = np.asarray(layer.activation(x @ (np.rint(kernel / scale) * scale) + bias))
    expected = np.asarray(reference[1](DRAWS))
    plain, ours = (
        np.abs(y - expected).mean()
        for y in (x, explorer.decode(explorer.read(path), DRAWS))
    )
    assert ours < 0.7 * plain


def dense(*layers, dimensions=10):
    return keras.Sequential([keras.Input((dimensions,)), *layers])


def encode_in(dimensions):
    """An encoder of nothing."""
    return lambda x: [
        np.zeros((len(x), dimensions), "float32"),
        np.zeros((len(x), dimensions), "float32"),
    ]


@pytest.mark.parametrize(
    "dimensions, activation",
    [(2, "gelu"), (3, "sigmoid"), (16, "linear"), (16, "tanh")],
)
def test_other_decoders_have_pages_too(dimensions, activation, test_set, tmp_path):
    keras.utils.set_random_seed(2)
    hidden = keras.layers.Dense(32, activation=activation, use_bias=False)
    decoder = dense(
        hidden, keras.layers.Dense(784, activation="sigmoid"), dimensions=dimensions
    )
    model = explorer.read(
        explorer.write(tmp_path / "p.html", encode_in(dimensions), decoder, *test_set)
    )
    z = np.resize(DRAWS, (100, dimensions))
    assert (
        len(model["kl"]) == dimensions
        and np.abs(by_hand(model, z) - decoder(z)).max() < ROUNDING
    )


def test_page_needs_nothing_from_elsewhere(path):
    page = path.read_text(encoding="utf-8")
    assert len(page) < 1_300_000
    assert not re.search(
        r"https?:|\bsrc=|@import|url\(|\bfetch\b|XMLHttpRequest|importScripts|WebSocket",
        page,
    )
    assert re.findall(r'\bhref="([^"]*)"', page) == ["data:,"]
    assert "default-src 'none'" in page  # and the browser sees to it
    assert "{{" not in page


def test_kl_decides_what_carries_nothing(path, reference, test_set):
    model = explorer.read(path)
    kl = np.asarray(vh.kl_to_prior(*reference[0](test_set[0]))).mean(axis=0)
    assert np.allclose(model["kl"], kl, atol=1e-5)
    assert (
        0
        < sum(np.array(model["kl"]) <= model["threshold"])
        == 10 - vh.active_dimensions(kl[None])
    )


def test_two_garments_of_each_class_can_be_picked(path, reference, test_set):
    x, labels = test_set
    garments = explorer.read(path)["garments"]
    assert [g["name"] for g in garments] == [
        f"{name} {number}" for name in vh.CLASS_NAMES for number in (1, 2)
    ]
    firsts = np.array([g["z"] for g in garments])[::2]
    assert np.allclose(firsts, reference[0](x[vh.one_of_each(labels)])[0], atol=1e-3)


def test_title_is_text_and_not_markup(test_set, tmp_path):
    decoder, title = dense(keras.layers.Dense(784)), "a <b> & {{model}}"
    page = explorer.write(
        tmp_path / "p.html", encode_in(10), decoder, *test_set, title=title
    ).read_text("utf-8")
    assert "<title>a &lt;b&gt; &amp; " in page and page.count("</script>") == 2


def with_a_branch():
    z = keras.Input((10,))
    keep = keras.layers.Dense(10, activation="relu", name="keep")
    return keras.Model(z, keras.layers.Dense(784)(keep(keep(z))))


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: dense(keras.layers.Reshape((1, 1, 10))),
            "must be made of Dense layers; .* is a Reshape",
        ),
        (
            lambda: dense(keras.layers.Dense(784), dimensions=7),
            "takes 7 numbers, but gets 10",
        ),
        (lambda: dense(keras.layers.Dense(100)), "images of 784 pixels, not 100"),
        (
            lambda: dense(keras.layers.Dense(784, activation="swish")),
            "has the activation silu; the page knows",
        ),
        (with_a_branch, "something other than its Dense layers one after the other"),
        (lambda: np.tanh, "must be made of Dense layers; 'decoder' is a ufunc"),
    ],
    ids=["reshape", "latent", "pixels", "swish", "branch", "function"],
)
def test_decoder_that_the_page_cannot_hold_is_refused(
    make, message, test_set, tmp_path
):
    with pytest.raises(ValueError, match=message):
        explorer.write(tmp_path / "p.html", encode_in(10), make(), *test_set)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda e, d, x, y: (e, d, x, y[:-1]),
            "labels must be 1000 classes .* got \\(999,\\)",
        ),
        (
            lambda e, d, x, y: (e, d, x, y + 1),
            "labels must be 1000 classes from 0 to 9",
        ),
        (
            lambda e, d, x, y: (e, d, x.reshape(-1, 28, 28), y),
            "x must be images \\(n, 784\\), not .*28, 28",
        ),
        (lambda e, d, x, y: (e, d, x[:0], y[:0]), "x must be images"),
        (lambda e, d, x, y: (lambda x: e(x)[0], d, x, y), "z_mean and z_log_var"),
    ],
    ids=["length", "classes", "shape", "empty", "autoencoder"],
)
def test_wrong_arguments_are_named(change, message, reference, test_set, tmp_path):
    with pytest.raises(ValueError, match=message):
        explorer.write(tmp_path / "p.html", *change(*reference, *test_set))


def test_only_pages_of_the_explorer_are_read(tmp_path):
    (tmp_path / "other.html").write_text("<p>Hello")
    with pytest.raises(
        ValueError, match="other.html is not a page that explorer.write made"
    ):
        explorer.read(tmp_path / "other.html")
    with pytest.raises(FileNotFoundError):
        explorer.show(tmp_path / "none.html")


# ---------------------------------------------------------------- in a notebook


def test_stored_notebook_holds_a_picture_and_a_link(path, shown):
    explorer.show(path)
    live = json.dumps(notebook_with(shown))
    assert "srcdoc" in live and len(live) < 1_300_000
    stored = explorer.strip(notebook_with(shown))
    nbformat.validate(stored)
    text = json.dumps(stored)
    assert len(text) < 80_000 and "iframe" not in text and "script" not in text
    picture, link = stored.cells[0].outputs
    alt = picture.metadata["image/png"]["alt"]
    assert "10 sliders" in alt and re.search(
        r"carrying nothing: \d, \d, \d, \d\.$", alt
    )
    assert (
        Image.open(io.BytesIO(base64.b64decode(picture.data["image/png"]))).width > 400
    )
    assert f'href="{refresh.repository()}#run-it"' in link.data["text/html"]
    assert "\n## Run it\n" in (course.ROOT / "README.md").read_text(encoding="utf-8"), (
        "the link leads there"
    )
    assert json.dumps(explorer.strip(stored)) == text, "nothing is left to strip"


def test_rendered_page_takes_the_explorer_from_its_file(path, shown):
    explorer.show(path)
    for notebook in (
        notebook_with(shown),
        explorer.strip(notebook_with(shown)),
    ):  # executed, and stored
        assert explorer.embed(notebook, path.parent) == [path]
        frame = notebook.cells[0].outputs[0].data["text/html"]
        assert (
            ' src="explorer.html"' in frame
            and ' title="' in frame
            and "srcdoc" not in frame
        )
        assert len(notebook.cells[0].outputs) == 1, "the link to run it is gone"


def test_stored_notebook_whose_explorer_is_nowhere_keeps_its_picture(
    path, shown, tmp_path
):
    explorer.show(path)
    stored = explorer.strip(notebook_with(shown))
    before = json.dumps(stored)
    assert explorer.embed(stored, tmp_path) == [] and json.dumps(stored) == before


def test_strip_leaves_other_outputs_alone():
    output = nbformat.v4.new_output("display_data", {"text/html": '<a href="x">y</a>'})
    notebook = notebook_with([output, nbformat.v4.new_output("stream", text="hello")])
    notebook.cells.append(nbformat.v4.new_markdown_cell("# Title"))
    before = json.dumps(notebook)
    assert (
        explorer.embed(notebook, ".") == []
        and json.dumps(explorer.strip(notebook)) == before
    )


def test_colab_gets_the_frame_alone(path, shown, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    explorer.show(path)
    assert [set(output.data) for output in shown] == [{"text/html", "text/plain"}]


# ---------------------------------------------------------------- animation


def test_animation_plays_there_and_back_and_stays_small(path, shown):
    model = explorer.read(path)
    a, b = (np.array(model["garments"][i]["z"]) for i in (2, 16))
    frames = explorer.decode(model, a + np.linspace(0, 1, 31)[:, None] * (b - a))
    explorer.animate(frames, "From trousers to a bag.")
    file = base64.b64decode(shown[0].data["image/png"])
    assert (
        len(file) < 150_000
        and shown[0].metadata["image/png"]["alt"] == "From trousers to a bag."
    )
    animation = Image.open(io.BytesIO(file))
    assert (
        animation.is_animated
        and animation.n_frames == 60
        and animation.info["loop"] == 0
    )
    for number, frame in [(0, 0), (17, 17), (30, 30), (31, 29), (59, 1)]:
        animation.seek(number)
        picture = np.asarray(animation.convert("L"))
        assert np.array_equal(
            picture[2:170:6, :168:6].ravel(),
            np.rint(frames[frame] * 255).astype("uint8"),
        )
        strip = [
            picture[top : top + 84 : 3, left : left + 84 : 3]
            for top in (0, 88)
            for left in range(180, 704, 88)
        ]
        assert np.array_equal(
            strip[0].ravel(), np.rint(frames[0] * 255).astype("uint8")
        )
        assert np.array_equal(
            strip[-1].ravel(), np.rint(frames[-1] * 255).astype("uint8")
        )


@pytest.mark.parametrize("shape", [(1, 784), (5, 28, 28)])
def test_animation_of_something_else_is_refused(shape, shown):
    with pytest.raises(ValueError, match="frames must be (two or more )?images"):
        explorer.animate(np.zeros(shape), "nothing")
    assert not shown
