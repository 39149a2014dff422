"""The map computes as Keras does, loads nothing from elsewhere, hides no label.

test_browser.py tests its page in a browser.
"""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import types

import keras
import nbformat
import numpy as np
import pytest
from PIL import Image

import course
import vae_helpers as vh
from course.data import load_sample
from course.map import PARTS
from course.map import page as map_page
from tools import refresh
from tools.pages import embed_explorers
from tools.refresh import strip_explorer

# Because weights are rounded, a pixel in [0, 1] and -ELBO may differ from Keras' so far.
PIXEL, NATS = 0.1, 1.0
VAES = [name for name in vh.MODELS if name.endswith("_encoder")]


@pytest.fixture(scope="module")
def test_set():
    """The sample's 1,000 test images (1000, 784) and their labels (1000,)."""
    return load_sample()[2:]


def reference(name):
    """A reference model's encoder and decoder; `name` is the first part's file."""
    model = vh.load(course.REFERENCE / f"{name}.keras")
    if name == "autoencoder":
        return vh.split_autoencoder(model)
    return model, vh.load(course.REFERENCE / f"{name.replace('en', 'de')}.keras")


@pytest.fixture(scope="module")
def pairs():
    """All reference models, {name: (encoder, decoder)}."""
    return {name: reference(name) for name in [*VAES, "autoencoder"]}


@pytest.fixture(scope="module")
def models(pairs, test_set):
    """What the page holds of each reference model, {name: model}."""
    return {name: map_page.describe(*pair, test_set[0]) for name, pair in pairs.items()}


@pytest.fixture(scope="module")
def path(tmp_path_factory, pairs, models, test_set):
    """The page of all reference models."""
    path = tmp_path_factory.mktemp("map") / "new" / "explorer.html"
    first, *others = pairs.values()
    described = iter(models.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(map_page, "describe", lambda *_: next(described))
        return map_page.write(path, *first, *test_set, others=others)


@pytest.fixture
def outputs(monkeypatch):
    """What is displayed, as the outputs of a notebook's cell (a list)."""
    outputs = []

    def display(data, raw, metadata):
        assert raw
        outputs.append(nbformat.v4.new_output("display_data", data, metadata=metadata))

    monkeypatch.setattr(map_page, "display", display)
    return outputs


def notebook_with(outputs):
    """A valid notebook of one cell, which has these outputs."""
    cell = nbformat.v4.new_code_cell(
        "map_page.show(page)", outputs=outputs, execution_count=1
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbformat.validate(notebook)
    return notebook


def in_double(model):
    """A copy of a Keras model that computes in float64.

    In float32 a pixel near 1 is rounded where its -log(1 - pixel) is steepest: the
    autoencoder's nats are then wrong by up to 30 on validation images.
    """
    copy = keras.models.clone_model(
        model,
        clone_function=lambda layer: type(layer).from_config(
            layer.get_config() | {"dtype": "float64"}
        ),
    )
    copy.set_weights(model.get_weights())
    return copy


def nats_by_hand(x, z_mean, z_log_var, noise, decode):
    """-ELBO (n,) of images x, with the draws of `noise` (k, d), in float64."""
    total = 0
    for draw in noise:
        sd = 0 if z_log_var is None else np.exp(z_log_var / 2)
        p = np.clip(decode(z_mean + sd * draw), 1e-7, 1 - 1e-7)
        total -= (x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=1) / len(noise)
    if z_log_var is not None:
        total += 0.5 * (z_mean**2 + np.exp(z_log_var) - 1 - z_log_var).sum(axis=1)
    return total


def codes_of(encoder, x):
    """z_mean and z_log_var of a Keras encoder, as arrays; an autoencoder has one."""
    codes = encoder(x)
    pair = codes if isinstance(codes, (list, tuple)) else (codes, None)
    return [None if code is None else np.asarray(code) for code in pair]


# ---------------------------------------------------------------- the page


def dense(*layers):
    """A decoder of two numbers, of these layers."""
    return keras.Sequential([keras.Input((2,)), *layers])


# The page's scripts in node, with as much of a browser as drawing the names needs.
IN_NODE = """
const written = [];
let now = 1;
const context = new Proxy({
  measureText: text => ({ width: 7.3 * now * text.length }),
  fillText: (text, x, y) => written.push([text, x, y]),
}, { get: (own, name) => own[name] ?? (() => {}), set: () => true });
globalThis.window = globalThis;
window.parent = window.top = window;
globalThis.document = {
  querySelectorAll: () => [{ id: "map", getContext: () => context }],
  createElement: () => ({ getContext: () => context }),
};
globalThis.matchMedia = () => ({ matches: false });
const { scripts, stored, ...given } = JSON.parse(
  require("fs").readFileSync(0, "utf8"));
eval(`${scripts}; (async () => {
  page = await unpack(stored);
  style = {};
  page.models.forEach(model => {
    model.garments = Array.from(page.labels, (_, i) => codeOf(model, i));
    model.points = model.garments.map(z => toPlane(model, z));
  });
  console.log(JSON.stringify(page.models.map((model, k) => {
    Object.assign(state, { model });
    return (TASK)(model, k);
  })));
})();`);
"""


def in_node(path, task, **given):
    """What a function of JavaScript, `task`, returns for each model of a page.

    It finds what it is given as `given`.
    """
    node = shutil.which("node") or pytest.skip("needs node")
    names = ("drawing.js", "arithmetic.js", "map.js")
    scripts = [(PARTS / name).read_text("utf-8") for name in names]
    stored = re.search(r'id="model">(.*?)</script>', path.read_text("utf-8"))[1]
    given |= {"scripts": "".join(scripts), "stored": json.loads(stored)}
    done = subprocess.run(
        [node, "-e", IN_NODE.replace("TASK", task)], input=json.dumps(given),
        text=True, capture_output=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_page_computes_as_keras_does(path, pairs, models, test_set):
    x = test_set[0][200:300].astype("float64")
    rng = np.random.default_rng(784)
    codes = [rng.normal(size=(100, m["dimensions"])) for m in models.values()]
    task = """(model, k) => [
      given.codes[k].map(z => [...decode(model, z)]),
      given.images.map(image => [...encode(model, image)[0]]),
      given.images.map(image => measure(model, image).bound)]"""
    found = in_node(path, task, codes=[z.tolist() for z in codes], images=x.tolist())
    for (name, pair), z, (images, means, bounds) in zip(pairs.items(), codes, found):
        encoder, decoder = map(in_double, pair)
        z_mean, z_log_var = codes_of(encoder, x)
        noise = models[name]["noise"]
        expected = nats_by_hand(
            x, z_mean, z_log_var, noise, lambda z, d=decoder: np.asarray(d(z))
        )
        pixels = np.abs(np.array(images) - decoder(z))
        code, nats = (
            np.abs(np.array(means) - z_mean),
            np.abs(np.array(bounds) - expected),
        )
        print(
            f"\n{name}: largest difference between page and Keras: pixel "
            f"{pixels.max():.4f} (mean {pixels.mean():.5f}), code {code.max():.4f}, "
            f"-ELBO {nats.max():.3f} nats (mean {nats.mean():.3f})"
        )
        assert pixels.max() < PIXEL and code.max() < 0.02 and nats.max() < NATS


@pytest.mark.parametrize("name", VAES)
def test_few_draws_give_the_elbo_of_many(name, models, pairs, test_set):
    x, noise = test_set[0][:200], models[name]["noise"].astype("float64")
    assert np.allclose(noise.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(np.cov(noise.T, ddof=0), np.eye(noise.shape[1]), atol=1e-4)
    encoder, decoder = pairs[name]
    z_mean, z_log_var = codes_of(encoder, x)
    half = np.random.default_rng(5).normal(size=(400, noise.shape[1]))
    few, many = (
        nats_by_hand(x, z_mean, z_log_var, draws, lambda z: np.asarray(decoder(z)))
        for draws in (noise, np.concatenate([half, -half]))
    )
    print(f"\n{name}: {len(noise)} draws less 800: {(few - many).mean():+.3f} nats")
    assert abs((few - many).mean()) < 0.15


def test_page_of_three_models_of_the_course_has_about_4_megabytes(path):
    print(f"\nthe page has {path.stat().st_size / 1e6:.2f} MB")
    assert path.stat().st_size < 4_300_000


def test_page_loads_nothing_from_elsewhere(path):
    page = re.sub('"arrays": ".*?"', "", path.read_text(encoding="utf-8"))
    page = page.replace(map_page.ICON, "data:,")
    page = page.replace(f"{refresh.PAGES}/map.png", "")
    assert len(page) < 100_000, "the data remain"
    loads = r"\bsrc=|@import|url\(|\bfetch\b|XMLHttpRequest|importScripts|WebSocket"
    assert not re.search(f"https?:|{loads}", page)
    assert all(a.startswith("data:") for a in re.findall(r'\bhref="([^"]*)"', page))
    assert "default-src 'none'" in page  # the browser enforces it
    assert "{{" not in page


def test_use_decides_which_dimensions_are_inactive(models, pairs, test_set):
    mean, log_var = codes_of(pairs["vae_encoder"][0], test_set[0])
    kl = np.asarray(vh.kl_to_prior(mean, log_var)).mean(axis=0)
    use = np.array(models["vae_encoder"]["use"])
    assert np.allclose(use, kl, atol=1e-5)
    assert 0 < sum(use <= map_page.THRESHOLD) == 10 - vh.active_dimensions(kl[None])


def test_plane_is_that_of_the_principal_components(models, pairs, test_set):
    for name, (encoder, _) in pairs.items():
        model, mean = models[name], codes_of(encoder, test_set[0])[0].astype("float64")
        axes, centre = model["axes"], model["centre"]
        assert np.allclose(axes @ axes.T, np.eye(2), atol=1e-5)
        if model["dimensions"] == 2:
            assert np.array_equal(axes, np.eye(2)) and not centre.any()
            continue
        values = np.linalg.eigvalsh(np.cov(mean.T))[::-1]
        assert np.allclose(centre, mean.mean(axis=0), atol=1e-4)
        on_plane = ((mean - centre) @ axes.T).var(axis=0, ddof=1)
        assert np.allclose(on_plane, values[:2], rtol=1e-3)
        assert np.isclose(model["explained"], values[:2].sum() / values.sum())


def test_codes_that_are_all_the_same_have_a_plane():
    plane = map_page._plane(np.full((50, 10), 4.3, "float32"))
    assert plane["explained"] == 0 and np.allclose(plane["centre"], 4.3)


def test_model_that_the_page_cannot_compute_is_refused(pairs, test_set, tmp_path):
    encoder, _ = pairs["vae2d_encoder"]
    for layer in (
        keras.layers.Conv2DTranspose(784, 1),
        keras.layers.Dense(784, activation="swish"),
    ):
        decoder = dense(keras.layers.Reshape((1, 1, 2)), layer)
        with pytest.raises(ValueError, match="cannot compute layer .*: it knows Dense"):
            map_page.write(tmp_path / "p.html", encoder, decoder, *test_set)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- labels of the map


def test_no_label_hides_another_at_any_width_and_scale(path):
    scales, widths = (1, 1.25, 1.5, 2, 2.5, 3, 3.5), range(280, 701)
    task = """model => {
      model.middles = page.classes.map((_, label) => {
        const own = model.points.filter((_, i) => page.labels[i] === label);
        return [0, 1].map(k => median(own.map(point => point[k])));
      });
      return given.scales.map(scale => {
        window.devicePixelRatio = now = scale;
        return given.widths.map(width => {
          written.length = 0;
          ground.width = ground.height = Math.round(width * scale);
          paintNames(context, scale);
          return written.map(([name, x, y], label) =>
            ({ name, x, y, wanted: place(model.middles[label]) }));
        });
      });
    }"""
    for of_model in in_node(path, task, scales=scales, widths=list(widths)):
        for scale, of_scale in zip(scales, of_model):
            for width, names in zip(widths, of_scale):
                where, size = f"{width} px at scale {scale}", round(width * scale)
                assert [n["name"] for n in names] == list(vh.CLASS_NAMES), where
                at = np.array([[n["x"], n["y"]] for n in names])
                extent = [[(7.3 * len(n["name"]) + 8), 16] for n in names]
                extent = np.array(extent) * scale
                assert (at - extent / 2 > -0.1).all(), where
                assert (at + extent / 2 < size + 0.1).all(), where
                clear = np.abs(at[:, None] - at) - (extent[:, None] + extent) / 2
                clear = clear.max(axis=-1) + 1e9 * np.eye(len(at))
                assert clear.min() > -0.02, where
                # What is not at the middle of its class would hide an earlier label.
                wanted = np.array([n["wanted"] for n in names])
                wanted = wanted.clip(extent / 2, size - extent / 2)
                for i in np.flatnonzero(np.abs(at - wanted).max(axis=1) > 0.1):
                    gap = np.abs(at[:i] - wanted[i]) - (extent[:i] + extent[i]) / 2
                    assert (gap.max(axis=1) < 0).any(), f"{where}: {names[i]}"


def test_true_posterior_is_numpys(path, pairs, models, test_set):
    """-log p(x) by quadrature on the page and, with its weights, in NumPy.

    NumPy's lattice has 1212 x 1212 points: those near a place that matters on one of
    101 x 101.
    """
    task = """model => {
      if (model.dimensions > 2) return null;
      return Array.from({ length: 8 }, (_, i) => {
        const { logEvidence, squares } = truePosterior(model, picture(i));
        const weights = squares.map(({ log, size }) =>
          size ** 2 * Math.exp(log - logEvidence));
        return [logEvidence, weights, squares.map(({ z }) => z)];
      });
    }"""
    [found] = filter(None, in_node(path, task))
    model, encoder = models["vae2d_encoder"], pairs["vae2d_encoder"][0]
    x, n, half = test_set[0][:8].astype("float64"), 101, model["half"]

    def decoder(z):
        for layer in model["decoder"]:
            z = z @ (layer["kernel"] * layer["scale"]) + layer["bias"]
            z = np.maximum(z, 0) if layer["activation"] == "relu" else z
        return 1 / (1 + np.exp(-z))

    def log_joint(z):
        p = decoder(z).clip(1e-12, 1 - 1e-12)
        prior = -np.log(2 * np.pi) - (z**2).sum(axis=1) / 2
        return x @ np.log(p).T + (1 - x) @ np.log(1 - p).T + prior

    def lattice(n, half):
        steps = half * ((np.arange(n) + 0.5) / n * 2 - 1)
        return np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)

    z = lattice(n, half) + model["middle"]
    log = log_joint(z)
    near = (log > log.max(axis=1, keepdims=True) - 20).any(axis=0)
    z = (z[near, None] + lattice(12, half / n)).reshape(-1, 2)
    log, area = log_joint(z), (2 * half / (12 * n)) ** 2
    evidence = np.logaddexp.reduce(log, axis=1) + np.log(area)
    means = np.exp(log - evidence[:, None]) * area @ z
    largest = max(abs(f[0] - e) for f, e in zip(found, evidence))
    print(f"\n-log p(x): largest difference {largest:.3f} nats")
    assert largest < 0.2
    for (_, weights, places), mean in zip(found, means):
        assert abs(sum(weights) - 1) < 0.01
        assert np.allclose(np.array(weights) @ places, mean, atol=0.05)
    bound = nats_by_hand(x, *codes_of(encoder, x), model["noise"], decoder)
    assert (evidence > -bound - 0.2).all(), "-ELBO is a bound"


def test_words_name_the_neighbours_of_the_code_and_not_of_its_place(
    path, models, test_set
):
    """Off the plane, the place has other neighbours than the code that is decoded."""
    task = """model => Array.from({ length: 300 }, (_, i) => {
      const z = model.garments[i], far = model.garments.map(() => z.map(() => 1e3));
      model.garments[i] = far[i];  // without itself
      const words = inWords(z), [, byPlace] = nearest(model.points, model.points[i], 2)[1];
      model.garments[i] = z;
      return [words, offPlane(model, z) > 0.02 * model.half, page.labels[byPlace]];
    })"""
    labels = test_set[1][:300]
    results = in_node(path, task)
    for model, found in zip(models.values(), results):
        words, off, by_place = zip(*found)
        named = [re.search(r"(?:near|nearest): ([^,]*)", w)[1] for w in words]
        agree = np.mean([n == vh.CLASS_NAMES[y] for n, y in zip(named, labels)])
        place = np.mean(np.array(by_place) == labels)
        print(f"\n{model['name']}: first named {agree:.0%}, by place {place:.0%}")
        assert np.mean(off) == (
            0 if model["dimensions"] == 2 else pytest.approx(1, abs=0.05)
        )
        if model["dimensions"] > 2:
            assert agree > place + 0.1


# ---------------------------------------------------------------- in a notebook


def test_stored_notebook_holds_a_picture(path, outputs):
    map_page.show(path)
    executed = json.dumps(notebook_with(outputs))
    assert "srcdoc" in executed and len(executed) < 5_000_000
    stored = strip_explorer(notebook_with(outputs))
    nbformat.validate(stored)
    text = json.dumps(stored)
    assert len(text) < 200_000 and "iframe" not in text and "script" not in text
    [picture] = stored.cells[0].outputs
    png = io.BytesIO(base64.b64decode(picture.data["image/png"]))
    assert Image.open(png).width > 400
    assert json.dumps(strip_explorer(stored)) == text, "stripping twice changes it"


def test_rendered_page_takes_the_explorer_from_its_file(path, outputs):
    map_page.show(path)
    executed = notebook_with(outputs)
    stored = strip_explorer(notebook_with(outputs))
    for notebook in (executed, stored):
        assert embed_explorers(notebook, path.parent) == [path]
        frame = notebook.cells[0].outputs[0].data["text/html"]
        assert ' src="explorer.html"' in frame and "srcdoc" not in frame
        assert ' title="' in frame


def test_colab_gets_the_frame_alone(path, outputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    map_page.show(path)
    assert [set(output.data) for output in outputs] == [{"text/html", "text/plain"}]
