"""The explorer computes what Keras computes, needs nothing from elsewhere, and can be used by all."""

import base64
import io
import json
import math
import re
import shutil

import keras
import nbformat
import numpy as np
import pytest
from nbconvert import HTMLExporter
from PIL import Image

import explorer
import vae_helpers as vh

ROUNDING = 0.05  # how far a pixel may be off, in [0, 1], because weights have 8 bits; measured: 0.02 to 0.04
DRAWS = np.random.default_rng(784).normal(size=(200, 10)).astype("float32")  # not those that `write` rounds for


@pytest.fixture(scope="module")
def test_set():
    """The sample's 1,000 test images (1000, 784) and their labels (1000,)."""
    _, files = vh._read_folder(vh.SAMPLE)
    raw, labels = (np.frombuffer(files[f"t10k-{name}-ubyte.gz"], np.uint8) for name in ("images-idx3", "labels-idx1"))
    return raw[16:].reshape(-1, 784).astype("float32") / 255, labels[8:]


@pytest.fixture(scope="module")
def reference():
    """The course's own encoder and decoder."""
    return [vh.load(vh.REFERENCE / f"{name}.keras") for name in ("vae_encoder", "vae_decoder")]


@pytest.fixture(scope="module")
def path(tmp_path_factory, reference, test_set):
    """The reference models' page."""
    return explorer.write(tmp_path_factory.mktemp("explorer") / "new" / "explorer.html", *reference, *test_set)


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
    cell = nbformat.v4.new_code_cell("explorer.show(page)", outputs=outputs, execution_count=1)
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
        z = functions[layer["activation"]](z @ (kernel.reshape(-1, len(scale)) * scale) + bias)
    return z


# ---------------------------------------------------------------- the page


def test_page_decodes_as_keras_does(path, reference):
    model = explorer.read(path)
    error = np.abs(by_hand(model, DRAWS) - reference[1](DRAWS))
    print(f"\nlargest pixel difference from Keras on 200 draws: {error.max():.4f}, mean {error.mean():.5f}")
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
    plain, ours = (np.abs(y - expected).mean() for y in (x, explorer.decode(explorer.read(path), DRAWS)))
    assert ours < 0.7 * plain


@pytest.mark.parametrize("latent_dim, activation", [(2, "gelu"), (2, "sigmoid"), (16, "linear"), (16, "tanh")])
def test_other_decoders_have_pages_too(latent_dim, activation, test_set, tmp_path):
    keras.utils.set_random_seed(2)
    decoder, encoder = vh.build_decoder(latent_dim, activation), vh.build_encoder(latent_dim)
    model = explorer.read(explorer.write(tmp_path / "p.html", encoder, decoder, *test_set))
    z = DRAWS[:, :2].repeat(latent_dim // 2, axis=1)
    assert len(model["kl"]) == latent_dim and np.abs(by_hand(model, z) - decoder(z)).max() < ROUNDING


def test_page_needs_nothing_from_elsewhere(path):
    page = path.read_text(encoding="utf-8")
    assert len(page) < 1_300_000
    assert not re.search(r"https?:|\bsrc=|@import|url\(|\bfetch\b|XMLHttpRequest|importScripts|WebSocket", page)
    assert re.findall(r'\bhref="([^"]*)"', page) == ["data:,"]
    assert "default-src 'none'" in page  # and the browser sees to it
    assert "{{" not in page


def test_kl_decides_what_carries_nothing(path, reference, test_set):
    model = explorer.read(path)
    kl = np.asarray(vh.kl_to_prior(*reference[0](test_set[0]))).mean(axis=0)
    assert np.allclose(model["kl"], kl, atol=1e-5)
    assert 0 < sum(np.array(model["kl"]) <= model["threshold"]) == 10 - vh.active_dimensions(kl[None])


def test_two_garments_of_each_class_can_be_picked(path, reference, test_set):
    x, labels = test_set
    garments = explorer.read(path)["garments"]
    assert [g["name"] for g in garments] == [f"{name} {number}" for name in vh.CLASS_NAMES for number in (1, 2)]
    firsts = np.array([g["z"] for g in garments])[::2]
    assert np.allclose(firsts, reference[0](x[vh.one_of_each(labels)])[0], atol=1e-3)


def test_title_is_text_and_not_markup(reference, test_set, tmp_path):
    page = explorer.write(tmp_path / "p.html", *reference, *test_set, title="a <b> & {{model}}").read_text("utf-8")
    assert "<title>a &lt;b&gt; &amp; " in page and page.count("</script>") == 2


def convolution():
    layers = [keras.layers.Reshape((1, 1, 10)), keras.layers.Conv2DTranspose(1, 28), keras.layers.Flatten()]
    return keras.Sequential([keras.Input((10,)), *layers])


def dense(*layers):
    return keras.Sequential([keras.Input((10,)), *layers])


def with_a_skip():
    z = keras.Input((10,))
    a = keras.layers.Dense(784)(z)
    return keras.Model(z, keras.layers.Dense(784, activation="sigmoid")(keras.layers.Add()([a, 5 * a])))


def with_a_branch():
    z = keras.Input((10,))
    keep = keras.layers.Dense(10, activation="relu", name="keep")
    return keras.Model(z, keras.layers.Dense(784)(keep(keep(z))))


@pytest.mark.parametrize(
    "make, message",
    [
        (convolution, "must be made of Dense layers; .* is a Reshape"),
        (lambda: vh.build_decoder(7), "takes 7 numbers, but gets 10"),
        (lambda: dense(keras.layers.Dense(100)), "images of 784 pixels, not 100"),
        (lambda: dense(keras.layers.Dense(784, activation="swish")), "has the activation silu; the page knows"),
        (lambda: dense(keras.layers.Dense(784, activation=lambda a: a)), "has the activation <lambda>"),
        (with_a_skip, "must be made of Dense layers"),
        (with_a_branch, "something other than its Dense layers one after the other"),
        (lambda: np.tanh, "must be made of Dense layers; 'decoder' is a ufunc"),
    ],
    ids=["convolution", "latent", "pixels", "swish", "lambda", "skip", "branch", "function"],
)
def test_decoder_that_the_page_cannot_hold_is_refused(make, message, reference, test_set, tmp_path):
    with pytest.raises(ValueError, match=message):
        explorer.write(tmp_path / "p.html", reference[0], make(), *test_set)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda e, d, x, y: (e, d, x, y[:-1]), "labels must be 1000 classes .* got \\(999,\\)"),
        (lambda e, d, x, y: (e, d, x, y + 1), "labels must be 1000 classes from 0 to 9"),
        (lambda e, d, x, y: (e, d, x.reshape(-1, 28, 28), y), "x must be images \\(n, 784\\), not .*28, 28"),
        (lambda e, d, x, y: (e, d, x[:0], y[:0]), "x must be images"),
        (lambda e, d, x, y: (vh.split_autoencoder(vh.build_autoencoder())[0], d, x, y), "z_mean and z_log_var"),
    ],
    ids=["length", "classes", "shape", "empty", "autoencoder"],
)
def test_wrong_arguments_are_named(change, message, reference, test_set, tmp_path):
    with pytest.raises(ValueError, match=message):
        explorer.write(tmp_path / "p.html", *change(*reference, *test_set))


def test_only_pages_of_the_explorer_are_read(tmp_path):
    (tmp_path / "other.html").write_text("<p>Hello")
    with pytest.raises(ValueError, match="other.html is not a page that explorer.write made"):
        explorer.read(tmp_path / "other.html")
    with pytest.raises(FileNotFoundError):
        explorer.show(tmp_path / "none.html")


# ---------------------------------------------------------------- in a notebook


def test_stored_notebook_holds_a_picture_and_a_link(path, shown):
    explorer.show(path, link="../build/explorer.html")
    live = json.dumps(notebook_with(shown))
    assert "srcdoc" in live and len(live) < 1_300_000
    stored = explorer.strip(notebook_with(shown))
    nbformat.validate(stored)
    text = json.dumps(stored)
    assert len(text) < 80_000 and "iframe" not in text and "script" not in text
    picture, link = stored.cells[0].outputs
    alt = picture.metadata["image/png"]["alt"]
    assert "10 sliders" in alt and re.search(r"carrying nothing: \d, \d, \d, \d\.$", alt)
    assert Image.open(io.BytesIO(base64.b64decode(picture.data["image/png"]))).width > 400
    assert 'href="../build/explorer.html"' in link.data["text/html"]
    assert "data:image/png" in HTMLExporter().from_notebook_node(stored)[0]


def test_rendered_page_refers_to_the_file_beside_it(path, shown):
    explorer.show(path)
    page = HTMLExporter().from_notebook_node(explorer.strip(notebook_with(shown), page="explorer.html"))[0]
    frame = re.search(r"<iframe [^>]*>", page)[0]
    assert ' src="explorer.html"' in frame and ' title="' in frame and "srcdoc" not in frame
    assert 'href="explorer.html"' in page


def test_strip_leaves_other_outputs_alone():
    output = nbformat.v4.new_output("display_data", {"text/html": '<a href="x">y</a>'})
    stream = nbformat.v4.new_output("stream", text="hello")
    notebook = notebook_with([output, stream])
    notebook.cells.append(nbformat.v4.new_markdown_cell("# Title"))
    before = json.dumps(notebook)
    assert json.dumps(explorer.strip(notebook)) == json.dumps(explorer.strip(notebook, page="p.html")) == before


# ---------------------------------------------------------------- animation


def test_animation_plays_there_and_back_and_stays_small(reference, test_set, shown, tmp_path):
    encoder, decoder = reference
    a, b = np.asarray(encoder(test_set[0][vh.one_of_each(test_set[1])[[1, 8]]])[0])
    frames = np.asarray(decoder(a + np.linspace(0, 1, 31, dtype="float32")[:, None] * (b - a)))
    explorer.animate(tmp_path / "walk.png", frames, "From trousers to a bag.")
    file = (tmp_path / "walk.png").read_bytes()
    assert base64.b64decode(shown[0].data["image/png"]) == file and len(file) < 150_000
    assert shown[0].metadata["image/png"]["alt"] == "From trousers to a bag."
    animation = Image.open(io.BytesIO(file))
    assert animation.is_animated and animation.n_frames == 60 and animation.info["loop"] == 0
    for number, frame in [(0, 0), (17, 17), (30, 30), (31, 29), (59, 1)]:
        animation.seek(number)
        picture = np.asarray(animation.convert("L"))
        assert np.array_equal(picture[2:170:6, :168:6].ravel(), np.rint(frames[frame] * 255).astype("uint8"))
        strip = [picture[top : top + 84 : 3, left : left + 84 : 3] for top in (0, 88) for left in range(180, 704, 88)]
        assert np.array_equal(strip[0].ravel(), np.rint(frames[0] * 255).astype("uint8"))
        assert np.array_equal(strip[-1].ravel(), np.rint(frames[-1] * 255).astype("uint8"))


@pytest.mark.parametrize("shape", [(1, 784), (5, 28, 28), (784,)])
def test_animation_of_something_else_is_refused(shape, shown):
    with pytest.raises(ValueError, match="frames must be (two or more )?images"):
        explorer.animate(None, np.zeros(shape), "nothing")
    assert not shown


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def chromium():
    """A browser, if there is one: Playwright for Python, and a Chromium or Chrome."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    with playwright.sync_playwright() as p:
        own = next(filter(None, map(shutil.which, names)), None)
        try:
            browser = p.chromium.launch(executable_path=own, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"needs a Chromium that starts: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium, path):
    """The page, opened from its file; it must neither complain nor ask for anything."""
    tab = chromium.new_page()
    complaints, requests = [], []
    tab.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(path.as_uri())
    yield tab
    tab.close()
    assert complaints == [] and requests == [path.as_uri()]


def pixels(tab):
    """The canvas, (784,) in 0 to 255."""
    read = "() => [...document.querySelector('canvas').getContext('2d').getImageData(0, 0, 28, 28).data]"
    return np.array(tab.evaluate(read)).reshape(-1, 4)[:, 0]


def values(tab):
    """The numbers beside the sliders, in the order of the dimensions."""
    read = "i => document.getElementById('z' + i).nextElementSibling.textContent"
    return np.array([float(tab.evaluate(read, i).replace("\u2212", "-")) for i in range(10)])


def test_browser_decodes_as_keras_does(tab, path, reference):
    images = np.array(tab.evaluate("codes => codes.map(z => [...decode(z)])", DRAWS.tolist()))
    assert tab.evaluate("decode(new Float32Array(10)) instanceof Float32Array")
    error = np.abs(images - reference[1](DRAWS)).max()
    print(f"\nlargest pixel difference between browser and Keras on 200 draws: {error:.4f}")
    assert error < ROUNDING
    assert np.allclose(images, by_hand(explorer.read(path), DRAWS), atol=1e-4)
    assert np.abs(pixels(tab) - 255 * by_hand(explorer.read(path), np.zeros((1, 10)))[0]).max() <= 1  # the start


def test_browser_computes_gelu_as_keras_does(chromium, test_set, tmp_path):
    keras.utils.set_random_seed(2)
    path = explorer.write(tmp_path / "p.html", vh.build_encoder(4, "gelu"), vh.build_decoder(4, "gelu"), *test_set)
    tab = chromium.new_page()
    tab.goto(path.as_uri())
    z = 3 * DRAWS[:20, :4]
    images = np.array(tab.evaluate("codes => codes.map(z => [...decode(z)])", z.tolist()))
    assert np.allclose(images, by_hand(explorer.read(path), z), atol=1e-4)
    tab.close()


def test_slider_moves_by_keyboard_and_changes_the_picture(tab, path):
    before, most_used = pixels(tab), int(np.argmax(explorer.read(path)["kl"]))
    tab.focus(f"#z{most_used}")
    for _ in range(30):
        tab.keyboard.press("ArrowRight")
    assert values(tab)[most_used] == 1.5 and np.count_nonzero(values(tab)) == 1
    assert np.abs(pixels(tab) - before).max() > 50
    tab.click("#zero")
    assert not values(tab).any() and np.array_equal(pixels(tab), before)


def test_tab_key_alone_reaches_every_control_and_shows_where_it_is(tab):
    reached = []
    for _ in range(15):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.id"))
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert set(reached) == {"random", "zero", "from", "to", "way", *(f"z{i}" for i in range(10))}


def test_every_control_has_a_name_and_dead_dimensions_are_marked_in_words(tab, path):
    for control in tab.query_selector_all("input, select"):
        assert control.evaluate("node => node.labels[0].textContent.trim()")
    model = explorer.read(path)
    for i, kl in enumerate(model["kl"]):
        said = tab.inner_text(f"#kl{i}")
        assert said == ("carries nothing" if kl <= model["threshold"] else f"{kl:.2f} nats")
        assert tab.get_attribute(f"#z{i}", "aria-describedby") == f"kl{i}"


def test_random_garment_and_walk_between_two(tab, path):
    tab.focus("#random")
    tab.keyboard.press("Enter")
    first = values(tab)
    tab.keyboard.press("Enter")
    assert np.sum(first != values(tab)) > 7 and np.all(np.abs(values(tab)) < 6)
    garments = explorer.read(path)["garments"]
    a, b = np.array(garments[2]["z"]), np.array(garments[16]["z"])
    tab.select_option("#from", label="Trouser 1")
    tab.select_option("#to", label="Bag 1")
    assert np.allclose(values(tab), a, atol=0.006)
    tab.focus("#way")
    for _ in range(25):
        tab.keyboard.press("ArrowRight")
    assert np.allclose(values(tab), a + 0.25 * (b - a), atol=0.006)
    tab.keyboard.press("End")
    assert np.allclose(values(tab), b, atol=0.006)
    assert np.abs(pixels(tab) - 255 * by_hand(explorer.read(path), b[None])[0]).max() <= 2
    tab.wait_for_selector("#status:has-text('Bag 1')")  # said when the slider rests
    assert "Bag 1" in tab.get_attribute("canvas", "aria-label")


def test_page_fits_a_phone(tab):
    tab.set_viewport_size({"width": 340, "height": 700})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 340


def test_time_to_decode_is_told(tab):
    time = """() => { const z = Array.from({length: 10}, (_, i) => Math.sin(7 * i)), times = [];
      for (let i = 0; i < 100; i++) { const t = performance.now(); decode(z); times.push(performance.now() - t); }
      return times.sort((a, b) => a - b)[50]; }"""
    print(f"\nmedian time to decode an image in the browser: {tab.evaluate(time):.2f} ms")
    assert float(tab.inner_text("#time")) >= 0
