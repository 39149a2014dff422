"""The map computes as Keras does, loads nothing from elsewhere, refuses what it cannot.

test_browser.py tests its page in a browser.
"""

import base64
import io
import json
import math
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
from course.map import page as map_page
from tools import refresh
from tools.pages import embed_explorers
from tools.refresh import strip_explorer

# Because weights are rounded, a pixel in [0, 1] and -ELBO may differ from Keras' so far.
PIXEL, NATS = 0.1, 2.0
# Codes other than those on which `write` compares.
DRAWS = np.random.default_rng(784).normal(size=(200, 10)).astype("float32")
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
def path(tmp_path_factory, pairs, test_set):
    """The page of all reference models."""
    path = tmp_path_factory.mktemp("map") / "new" / "explorer.html"
    first, *others = pairs.values()
    return map_page.write(path, *first, *test_set, others=others)


@pytest.fixture(scope="module")
def models(path, pairs):
    """What the page holds of each reference model, {name: model}."""
    return dict(zip(pairs, map_page.read(path)["models"]))


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


def forward_by_hand(layers, x):
    """The output (n, units) for inputs x (n, d), in float64, of what the page holds."""
    functions = {
        "linear": lambda a: a,
        "relu": lambda a: np.maximum(a, 0),
        "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    }
    for layer in layers:
        kernel = layer["kernel"] * layer["scale"]
        x = functions[layer["activation"]](x @ kernel + layer["bias"])
    return x


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


@pytest.mark.parametrize("name", [*VAES, "autoencoder"])
def test_page_computes_as_keras_does(name, models, pairs, test_set):
    model, x = models[name], test_set[0][200:400].astype("float64")
    encoder, decoder = map(in_double, pairs[name])
    d = model["dimensions"]
    z = np.random.default_rng(784).normal(size=(200, d))
    z_mean, z_log_var = codes_of(encoder, x)
    codes = forward_by_hand(model["encoder"], x)
    log_var = None if z_log_var is None else codes[:, d:]
    by_hand = nats_by_hand(
        x, codes[:, :d], log_var, model["noise"],
        lambda z: forward_by_hand(model["decoder"], z),
    )  # fmt: skip
    expected = nats_by_hand(
        x, z_mean, z_log_var, model["noise"], lambda z: np.asarray(decoder(z))
    )
    pixels = np.abs(forward_by_hand(model["decoder"], z) - decoder(z))
    nats = np.abs(by_hand - expected)
    print(
        f"\n{name}: largest difference between page and Keras: pixel {pixels.max():.4f}"
        f" (mean {pixels.mean():.5f}), code {np.abs(codes[:, :d] - z_mean).max():.4f},"
        f" -ELBO {nats.max():.3f} nats (mean {nats.mean():.3f})"
    )
    assert pixels.max() < PIXEL and nats.max() < NATS
    assert np.allclose(
        map_page.decode(model, z), forward_by_hand(model["decoder"], z), atol=1e-5
    )
    assert np.allclose(map_page.encode(model, x)[0], codes[:, :d], atol=1e-3)
    assert np.allclose(map_page.score(model, x), by_hand, atol=0.01)


@pytest.mark.parametrize("name", [*VAES, "autoencoder"])
def test_page_states_its_largest_differences_from_keras(name, models, pairs, test_set):
    model, x = models[name], test_set[0][:200].astype("float64")
    encoder, decoder = map(in_double, pairs[name])
    z_mean, z_log_var = codes_of(encoder, x)
    draws = np.random.default_rng(vh.SEED).normal(size=(200, model["dimensions"]))
    z = np.concatenate([draws, z_mean])
    nats = nats_by_hand(
        x, z_mean, z_log_var, model["noise"], lambda z: np.asarray(decoder(z))
    )
    largest = {
        "pixels": np.abs(forward_by_hand(model["decoder"], z) - decoder(z)).max(),
        "codes": np.abs(map_page.encode(model, x)[0] - z_mean).max(),
        "nats": np.abs(map_page.score(model, x) - nats).max(),
    }
    for quantity, stated in model["differences"].items():
        assert largest[quantity] - 1e-4 <= stated < largest[quantity] + 2e-3
    assert model["differences"]["pixels"] < PIXEL
    assert model["differences"]["nats"] < NATS


@pytest.mark.parametrize("name", VAES)
def test_few_draws_give_the_elbo_of_many_and_their_error_is_stated(
    name, models, pairs, test_set
):
    model, x = models[name], test_set[0][:200]
    noise = model["noise"].astype("float64")
    assert np.allclose(noise.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(np.cov(noise.T, ddof=0), np.eye(noise.shape[1]), atol=1e-4)
    encoder, decoder = pairs[name]
    z_mean, z_log_var = codes_of(encoder, x)
    half = np.random.default_rng(5).normal(size=(400, noise.shape[1]))
    pairs_of_draws = [
        np.mean([
            vh.bernoulli_nll(x, decoder(z_mean + sign * np.exp(z_log_var / 2) * draw))
            for sign in (-1, 1)
        ], axis=0)
        for draw in half.astype("float32")
    ]  # fmt: skip
    kl = np.asarray(vh.kl_to_prior(z_mean, z_log_var)).sum(axis=1)
    many = kl + np.mean(pairs_of_draws, axis=0)
    error = np.std(pairs_of_draws, axis=0) / len(half) ** 0.5  # of the many draws
    differences = map_page.score(model, x) - many
    print(
        f"\n{name}: {len(noise)} draws less 800: {differences.mean():+.3f} nats, "
        f"rms {np.sqrt((differences**2).mean()):.3f}, stated {model['sampling_sd']:.3f}"
    )
    assert abs(differences.mean()) < 0.15
    known = np.sqrt((error**2).mean() + model["sampling_sd"] ** 2)
    assert np.sqrt((differences**2).mean()) < 2 * known and known < 0.5


def test_small_layers_are_rounded_less_than_large_ones(models, pairs):
    for name, (_, decoder) in pairs.items():
        dense_layers = [layer for layer in decoder.layers if layer.weights]
        stored_layers = models[name]["decoder"]
        assert len(stored_layers) == len(dense_layers) == 4
        steps = []
        for stored, layer in zip(stored_layers, dense_layers):
            kernel, bias = layer.get_weights()
            rounded, scale = stored["kernel"].astype("float64"), stored["scale"]
            assert (np.abs(rounded * scale - kernel) <= 0.505 * scale).all()
            assert np.array_equal(stored["bias"], bias)
            steps.append(scale / kernel.std())
        sizes = [layer.kernel.shape[0] * layer.units for layer in dense_layers]
        assert np.array_equal(np.argsort(steps), np.argsort(sizes))


def test_page_of_three_models_of_the_course_has_about_4_megabytes(tmp_path):
    images = np.concatenate(load_sample()[::2])[: map_page.SHOWN]
    vae, labels = reference("vae_encoder"), np.zeros(len(images), int)
    others = [vae, reference("autoencoder")]
    path = map_page.write(tmp_path / "p.html", *vae, images, labels, others=others)
    print(f"\nthe page has {path.stat().st_size / 1e6:.2f} MB")
    assert len(images) == map_page.SHOWN and path.stat().st_size < 4_300_000


def dense(*layers, dimensions=10):
    """A decoder of these layers."""
    return keras.Sequential([keras.Input((dimensions,)), *layers])


def encode_in(dimensions, fill=0.0):
    """An encoder whose approximate posterior is the same for every image."""
    image = keras.Input((784,))
    heads = [
        keras.layers.Dense(
            dimensions, kernel_initializer="zeros", bias_initializer=constant
        )(image)
        for constant in [keras.initializers.Constant(fill)] * 2
    ]
    return keras.Model(image, heads)


@pytest.mark.filterwarnings("error::RuntimeWarning")  # a division by zero
def test_column_of_zeros_stays_zero(test_set, tmp_path):
    decoder = dense(keras.layers.Dense(784, activation="sigmoid"))
    kernel, bias = decoder.get_weights()
    kernel[:, 5] = 0
    decoder.set_weights([kernel, bias])
    path = map_page.write(tmp_path / "p.html", encode_in(10), decoder, *test_set)
    [model] = map_page.read(path)["models"]
    assert np.all(map_page.decode(model, DRAWS)[:, 5] == 0.5)


def test_page_loads_nothing_from_elsewhere(path):
    page = re.sub('"arrays": ".*?"', "", path.read_text(encoding="utf-8"))
    page = page.replace(map_page.ICON, "data:,")
    assert len(page) < 100_000, "the data remain"
    loads = r"\bsrc=|@import|url\(|\bfetch\b|XMLHttpRequest|importScripts|WebSocket"
    assert not re.search(f"https?:|{loads}", page)
    assert all(a.startswith("data:") for a in re.findall(r'\bhref="([^"]*)"', page))
    assert "default-src 'none'" in page  # the browser enforces it
    assert "{{" not in page


def test_script_stays_small_enough_to_be_read():
    scripts = [map_page.PARTS / name for name in map_page.SCRIPTS]
    assert sum(len(path.read_text("utf-8").splitlines()) for path in scripts) <= 1150


def test_use_decides_which_dimensions_are_inactive(models, pairs, test_set):
    x = test_set[0]
    for name, (encoder, _) in pairs.items():
        mean, log_var = codes_of(encoder, x)
        use = mean.std(axis=0)
        if log_var is not None:
            use = np.asarray(vh.kl_to_prior(mean, log_var)).mean(axis=0)
        assert np.allclose(models[name]["use"], use, atol=1e-5)
    kl = np.array(models["vae_encoder"]["use"])
    assert 0 < sum(kl <= map_page.THRESHOLD) == 10 - vh.active_dimensions(kl[None])


def test_map_holds_garments_and_their_codes(path, models, pairs, test_set):
    x, labels = test_set
    page = map_page.read(path)
    assert np.array_equal(page["pictures"], np.rint(255 * x)) and page["images"] == 1000
    assert np.array_equal(page["labels"], labels)
    first = page["examples"][::2]
    assert np.array_equal(first, vh.one_of_each(labels))
    assert np.array_equal(labels[page["examples"]], np.arange(10).repeat(2))
    for name, (encoder, _) in pairs.items():
        codes, scale = models[name]["codes"], models[name]["scale"]
        assert np.abs(codes * scale - codes_of(encoder, x)[0]).max() <= 0.51 * scale


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


def test_density_finds_the_gap_that_was_left(test_set, tmp_path):
    """All codes at (2, 0), with clouds of sd 0.5: N(0, I) elsewhere draws into a gap."""
    image = keras.Input((784,))
    heads = []
    for bias in ([2.0, 0.0], [2 * math.log(0.5)] * 2):
        head = keras.layers.Dense(2, kernel_initializer="zeros")
        heads.append(head(image))
        head.bias.assign(bias)
    decoder = dense(keras.layers.Dense(784, activation="sigmoid"), dimensions=2)
    arguments = keras.Model(image, heads), decoder, test_set[0][:20], test_set[1][:20]
    [model] = map_page.read(map_page.write(tmp_path / "p.html", *arguments))["models"]
    n, half, middle = map_page.CELLS, model["half"], model["middle"]

    def cell(u, v):
        return (
            int((middle[1] + half - v) / (2 * half) * n),
            int((u - middle[0] + half) / (2 * half) * n),
        )

    assert model["crowd"][cell(2, 0)] > 250 and model["crowd"][cell(-2, 0)] == 0
    assert model["gaps"][cell(-1, 0)] and model["gaps"][cell(0, -1.5)]
    assert not model["gaps"][cell(2, 0)] and not model["gaps"][cell(2.5, 0.5)]
    z = np.random.default_rng(1).normal(size=(100_000, 2))
    spread = 0.25 + (half / n) ** 2
    density = np.exp(-((z - [2, 0]) ** 2).sum(axis=1) / (2 * spread)) / spread
    share = np.mean(density < 0.1 * np.exp(-(z**2).sum(axis=1) / 2))
    assert abs(model["gap_share"] - share) < 0.01


def test_title_is_text_and_not_markup(test_set, tmp_path):
    decoder, title = dense(keras.layers.Dense(784)), "a <b> & {{data}}"
    path = tmp_path / "p.html"
    map_page.write(path, encode_in(10), decoder, *test_set, title=title)
    page = path.read_text("utf-8")
    assert page.count("<title>a &lt;b&gt; &amp; {{data}}</title>") == 1
    assert page.count("</script>") == 2


REFUSED_DECODERS = {
    "reshape": (
        lambda: dense(keras.layers.Reshape((1, 1, 10))),
        "decoder must consist of Dense layers; .* is of type Reshape",
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
    "function": (
        lambda: np.tanh,
        "must consist of Dense layers; 'decoder' is of type ufunc",
    ),
}


@pytest.mark.parametrize("name", REFUSED_DECODERS)
def test_decoder_that_the_page_cannot_hold_is_refused(name, test_set, tmp_path):
    build, message = REFUSED_DECODERS[name]
    with pytest.raises(ValueError, match=message):
        map_page.write(tmp_path / "p.html", encode_in(10), build(), *test_set)
    assert not list(tmp_path.iterdir())


def encoder_of(*heads, middle=()):
    """An encoder with these layers, one after another, and then heads side by side."""
    image = x = keras.Input((784,))
    for layer in middle:
        x = layer(x)
    return keras.Model(image, [head(x) for head in heads])


def with_heads_in_a_row():
    image = keras.Input((784,))
    mean = keras.layers.Dense(10)(image)
    return keras.Model(image, [mean, keras.layers.Dense(10)(mean)])


DENSE = keras.layers.Dense
REFUSED_ENCODERS = {
    "dropout": (
        lambda: encoder_of(DENSE(10), DENSE(10), middle=[keras.layers.Dropout(0.5)]),
        "encoder must consist of Dense layers; .* is of type Dropout",
    ),
    "three outputs": (
        lambda: encoder_of(DENSE(10), DENSE(10), DENSE(10)),
        "encoder must return z_mean and z_log_var, or .*; this one returns 3 outputs",
    ),
    "heads of two sizes": (
        lambda: encoder_of(DENSE(10), DENSE(9)),
        "z_mean and z_log_var must have one shape",
    ),
    "heads in a row": (
        with_heads_in_a_row,
        "encoder must end in two layers of one size and activation",
    ),
}


@pytest.mark.parametrize("name", REFUSED_ENCODERS)
def test_encoder_that_the_page_cannot_hold_is_refused(name, test_set, tmp_path):
    build, message = REFUSED_ENCODERS[name]
    decoder = dense(keras.layers.Dense(784))
    with pytest.raises(ValueError, match=message):
        map_page.write(tmp_path / "p.html", build(), decoder, *test_set)
    assert not list(tmp_path.iterdir())


WRONG_ARGUMENTS = {  # images and labels, one of them changed
    "length": (
        lambda x, y: (x, y[:-1]),
        r"labels must be 1000 classes .* got the shape \(999,\)",
    ),
    "classes": (lambda x, y: (x, y + 1), "labels must be 1000 classes from 0 to 9"),
    "shape": (
        lambda x, y: (x.reshape(-1, 28, 28), y),
        r"x must be images \(n, 784\), not .*28, 28",
    ),
    "empty": (lambda x, y: (x[:0], y[:0]), "x must be images"),
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_wrong_argument_is_named(name, test_set, tmp_path):
    change, message = WRONG_ARGUMENTS[name]
    models = encode_in(2), dense(keras.layers.Dense(784), dimensions=2)
    with pytest.raises(ValueError, match=message):
        map_page.write(tmp_path / "p.html", *models, *change(*test_set))


def test_only_pages_of_the_explorer_are_read(tmp_path):
    other = tmp_path / "other.html"
    other.write_text("<p>Hello")
    message = "other.html is not a page that page.write made"
    with pytest.raises(ValueError, match=message):
        map_page.read(other)
    with pytest.raises(FileNotFoundError):
        map_page.show(tmp_path / "none.html")


# ---------------------------------------------------------------- labels of the map

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
const { scripts, stored, scales } = JSON.parse(require("fs").readFileSync(0, "utf8"));
eval(`${scripts}; (async () => {
  page = await unpack(stored);
  style = {};
  page.models.forEach(model => model.points =
    Array.from(page.labels, (_, i) => toPlane(model, codeOf(model, i))));
  console.log(JSON.stringify(page.models.map(model => {
    Object.assign(state, { model });
    return (TASK)(model);
  })));
})();`);
"""


def in_node(path, task, **data):
    """What a function of JavaScript, `task`, returns for each model of a page."""
    scripts = [(map_page.PARTS / name).read_text("utf-8") for name in map_page.SCRIPTS]
    stored = re.search(r'id="model">(.*?)</script>', path.read_text("utf-8"))[1]
    data |= {"scripts": "".join(scripts[:3]), "stored": json.loads(stored)}
    return run_in_node(IN_NODE.replace("TASK", task), data)


def run_in_node(script, data):
    """What a script for node prints as JSON; it reads `data` as JSON on stdin."""
    node = shutil.which("node") or pytest.skip("needs node")
    done = subprocess.run(
        [node, "-e", script], input=json.dumps(data), text=True, capture_output=True,
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_label_hides_another_at_any_width_and_scale(path):
    scales, widths = (1, 1.25, 1.5, 2, 2.5, 3, 3.5), range(280, 701)
    task = """model => {
      const middles = page.classes.map((_, label) => {
        const own = model.points.filter((_, i) => page.labels[i] === label);
        return [0, 1].map(k => median(own.map(point => point[k])));
      });
      return scales.map(scale => {
        window.devicePixelRatio = now = scale;
        return Array.from({ length: 421 }, (_, i) => {
          written.length = 0;
          ground.width = ground.height = Math.round((280 + i) * scale);
          paintNames(context, scale);
          return written.map(([name, x, y], label) =>
            ({ name, x, y, wanted: place(middles[label]) }));
        });
      });
    }"""
    for of_model in in_node(path, task, scales=scales):
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


def test_true_posterior_is_numpys(path, test_set):
    """-log p(x) by quadrature on the page and on a lattice of 401 x 401 in NumPy."""
    task = """model => {
      if (model.dimensions > 2) return null;
      while (!fillSquares(model, 1000));
      return Array.from({ length: 12 }, (_, i) => {
        const image = picture(i);
        let result;
        do result = truePosterior(model, image, 1000); while (!result.isExact);
        const start = performance.now(), mass = result.squares;
        truePosterior(model, image);
        const weights = mass.map(({ log, size }) =>
          size ** 2 * Math.exp(log - result.logEvidence));
        return [result.logEvidence, performance.now() - start, weights,
          mass.map(({ z }) => z)];
      });
    }"""
    [found] = filter(None, in_node(path, task))
    [model] = [m for m in map_page.read(path)["models"] if m["dimensions"] == 2]
    x, n, half = test_set[0][:12].astype("float64"), 401, model["half"]
    steps = (np.arange(n) + 0.5) / n * 2 - 1
    z = np.stack(np.meshgrid(*(half * steps + m for m in model["middle"])), axis=-1)
    z = z.reshape(-1, 2)
    log = []
    for part in np.array_split(z, 40):
        p = map_page.decode(model, part).clip(1e-7, 1 - 1e-7)
        prior = -np.log(2 * np.pi) - (part**2).sum(axis=1) / 2
        log.append(x @ np.log(p).T + (1 - x) @ np.log(1 - p).T + prior)
    log = np.concatenate(log, axis=1)
    area = (2 * half / n) ** 2
    evidence = np.logaddexp.reduce(log, axis=1) + np.log(area)
    means = np.exp(log - evidence[:, None]) * area @ z
    largest = max(abs(f[0] - e) for f, e in zip(found, evidence))
    print(
        f"\n-log p(x): largest difference {largest:.3f} nats; "
        f"a stroke takes up to {max(f[1] for f in found):.0f} ms"
    )
    assert largest < 0.2
    for (_, _, weights, places), mean in zip(found, means):
        assert abs(sum(weights) - 1) < 0.01
        assert np.allclose(np.array(weights) @ places, mean, atol=0.05)
    assert (evidence > -map_page.score(model, x) - 0.2).all(), "-ELBO is a bound"


def test_words_name_the_neighbours_of_the_code_and_not_of_its_place(path, test_set):
    """Off the plane, the place has other neighbours than the code that is decoded."""
    task = """model => Array.from({ length: 300 }, (_, i) => {
      const z = codeOf(model, i), { labels } = page;
      page.labels = labels.map((label, j) => i === j ? 200 : label);  // without itself
      state.hidden.add(200);
      const words = inWords(z), [u, v] = toPlane(model, z);
      const byPlace = nearestOnMap([u, v], 1)[0][1];
      page.labels = labels;
      return [words, offPlane(model, z) > 0.02 * model.half, labels[byPlace]];
    })"""
    plurals = ["t-shirts", "trousers", "pullovers", "dresses", "coats", "sandals"]
    plurals = [*plurals, "shirts", "sneakers", "bags", "ankle boots"]
    labels = test_set[1][:300]
    results = in_node(path, task)
    for model, found in zip(map_page.read(path)["models"], results):
        words, off, by_place = zip(*found)
        named = [re.search(r"(?:near|from) ([\w -]*?)(?: and |$)", w)[1] for w in words]
        agree = np.mean([n == plurals[y] for n, y in zip(named, labels)])
        place = np.mean(np.array(by_place) == labels)
        print(f"\n{model['name']}: first named {agree:.0%}, by place {place:.0%}")
        assert np.mean(off) == (
            0 if model["dimensions"] == 2 else pytest.approx(1, abs=0.05)
        )
        if model["dimensions"] > 2:
            assert agree > place + 0.1


# ---------------------------------------------------------------- in a notebook


def test_stored_notebook_holds_a_picture_and_a_link(path, outputs):
    map_page.show(path)
    executed = json.dumps(notebook_with(outputs))
    assert "srcdoc" in executed and len(executed) < 5_000_000
    stored = strip_explorer(notebook_with(outputs))
    nbformat.validate(stored)
    text = json.dumps(stored)
    assert len(text) < 200_000 and "iframe" not in text and "script" not in text
    picture, link = stored.cells[0].outputs
    png = io.BytesIO(base64.b64decode(picture.data["image/png"]))
    assert Image.open(png).width > 400
    assert f'href="{refresh.REPOSITORY}#run-it"' in link.data["text/html"]
    readme = (course.ROOT / "README.md").read_text(encoding="utf-8")
    assert "\n## Run it\n" in readme, "README.md lacks the heading of the link"
    assert json.dumps(strip_explorer(stored)) == text, "stripping twice changes it"


def test_alternative_text_names_model_and_inactive_dimensions(
    outputs, test_set, tmp_path
):
    decoder, path = dense(keras.layers.Dense(784)), tmp_path / "p.html"
    for fill in (0.0, 1.0):
        map_page.show(map_page.write(path, encode_in(10, fill), decoder, *test_set))
    inactive, active = (output.metadata["image/png"]["alt"] for output in outputs)
    assert "codes of 1000 garments" in active and "VAE, 10 dimensions" in active
    assert inactive.endswith("; inactive dimensions: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9.")
    assert active.endswith("; no dimension is inactive.")


def test_rendered_page_takes_the_explorer_from_its_file(path, outputs):
    map_page.show(path)
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
    map_page.show(path)
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
    map_page.show(path)
    assert [set(output.data) for output in outputs] == [{"text/html", "text/plain"}]
