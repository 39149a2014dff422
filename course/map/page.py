"""The map of garments: one page to explore models with.

    path = page.write("map.html", encoder, decoder, x, labels)
    page.show(path)

`write` makes one self-contained HTML page: a map of codes, a pad to draw on, sliders,
the models' weights, rounded, and plain JavaScript that encodes and decodes with them
(the files beside this one). `show` displays the page in a notebook.
"""

import base64
import html
import io
import json
import math
import re
import sys
import tempfile
import zlib
from pathlib import Path

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display

from course.files import write_text

PARTS = Path(__file__).parent
SCRIPTS = ("drawing.js", "arithmetic.js", "map.js", "controls.js")
# The activations that the page's JavaScript has.
ACTIVATIONS = ("linear", "relu", "sigmoid")
THRESHOLD = 0.01  # a dimension is inactive if its mean KL (nats) or sd is not above
SHOWN = 1000  # garments on the map; more would exceed 4 MB with three models
# Of the rounded weights, see `_rounded`. A code must be exact, compared with its cloud.
STEPS = {"encoder": 2e-5, "decoder": 6e-5}
CHECKED = 200  # inputs on which the page is compared with Keras
PAIRS = 8  # of z and its negative: so many, or one a dimension, estimate -ELBO
CELLS = 96  # the density is computed on so many cells along each side of the map
GAP = 0.1  # a gap has less than this fraction of the prior's density


# A ring on the map, as the pages' icon.
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'"
    "%3E%3Crect width='16' height='16' rx='3' fill='%230b5cad'/%3E%3Ccircle cx='8' "
    "cy='8' r='4.5' fill='none' stroke='%23fff' stroke-width='2.5'/%3E%3C/svg%3E"
)

# ---------------------------------------------------------------- the page


def write(
    path,
    encoder,
    decoder,
    x,
    labels,
    title="The map of garments",
    others=(),
    address="",
):
    """Write the page of one or several models (about 4 MB for the course's three).

    Args:
        path: the file to write.
        encoder: Dense layers in sequence with `ACTIVATIONS`, from images (n, 784) to
            z_mean and z_log_var, each (n, d), or to codes (n, d) for an autoencoder.
        decoder: Dense layers in sequence, (n, d) -> (n, 784).
        x: images (n, 784) in [0, 1] on which the models were not trained. The first
            1,000 are on the map. All give the density of codes and each dimension's
            mean KL.
        labels: the classes of `x`, (n,), integers from 0 to 9.
        title: the page's title, plain text.
        others: further models for the same page, pairs (encoder, decoder).
        address: the address of the folder that holds the share picture map.png,
            ending in "/"; pages that quote this one need it.

    Returns:
        The path of the page, for `show`. If `path` cannot be written, a message is
        printed, and the page is a temporary file.

    Raises:
        ValueError: an argument is not as described. The message says which and why.
    """
    x, labels = vh.check_images(x).astype("float32"), np.asarray(labels)
    if labels.shape != (len(x),) or not np.isin(labels, range(10)).all():
        raise ValueError(
            f"labels must be {len(x)} classes from 0 to 9, one for each image; "
            f"got the shape {labels.shape}."
        )
    models = [_described(*pair, x) for pair in [(encoder, decoder), *others]]
    shown = labels[:SHOWN]
    page = {
        "models": models,
        "classes": vh.CLASS_NAMES,
        "labels": shown.astype("uint8"),
        "pictures": np.rint(x[:SHOWN] * 255).astype("uint8"),
        # The first two of each class, which the sliders' lists offer.
        "examples": [
            int(i) for label in range(10) for i in np.flatnonzero(shown == label)[:2]
        ],
        "images": len(x),
        "checked": CHECKED,
        "threshold": THRESHOLD,
    }
    parts = {
        "title": html.escape(title),
        "style": (PARTS / "page.css").read_text(encoding="utf-8"),
        "script": "".join((PARTS / s).read_text(encoding="utf-8") for s in SCRIPTS),
        "data": _packed(page),
        "picture": html.escape(f"{address}map.png"),
        "icon": ICON,
    }
    text = (PARTS / "page.html").read_text(encoding="utf-8")
    text = re.sub(r"{{(\w+)}}", lambda match: parts[match[1]], text)
    path = Path(path)
    try:
        write_text(path, text)
    except OSError as error:
        path = Path(tempfile.mkdtemp(), path.name)
        write_text(path, text)
        print(f"{error} For now, the page is {path}")
    return path


def read(path):
    """What the page at `path` holds: a dictionary with models, labels, pictures, ...

    Raises:
        OSError: the file cannot be read.
        ValueError: the file was not made by `write`.
    """
    page = Path(path).read_text(encoding="utf-8", errors="replace")
    script = r'<script type="application/json" id="model">(.*?)</script>'
    match = re.search(script, page)
    if not match:
        raise ValueError(f"{Path(path).name} is not a page that page.write made.")
    return _unpacked(json.loads(match[1]))


def _unpacked(stored):
    """What `_packed` got, of its JSON."""
    data = zlib.decompress(base64.b64decode(stored["arrays"]))

    def unpacked(value):
        if isinstance(value, dict) and "start" in value:
            kind, shape, start = value["type"], value["shape"], value["start"]
            count = math.prod(shape)
            if kind != "int16":
                return np.frombuffer(data, kind, count, start).reshape(shape)
            low, high = np.frombuffer(data, "int8", 2 * count, start).reshape(2, *shape)
            return low + np.int16(256) * high
        if isinstance(value, dict):
            return {key: unpacked(inner) for key, inner in value.items()}
        return (
            [unpacked(inner) for inner in value] if isinstance(value, list) else value
        )

    return unpacked(stored["page"])


def _packed(page):
    """A dictionary as JSON; its arrays are compressed together, named "arrays".

    In place of an array stand its type, shape, and first byte, a multiple of four. Of
    int16 all low bytes come first, then all high ones (mostly 0, so they take no room).
    """
    data = bytearray()

    def packed(value):
        if isinstance(value, np.ndarray):
            start, stored = len(data), value.tobytes()
            if value.dtype == "int16":
                low = value.astype("int8")  # value = low + 256 * high
                stored = low.tobytes() + ((value - low) >> 8).astype("int8").tobytes()
            data.extend(stored + bytes(-len(stored) % 4))
            return {"type": value.dtype.name, "shape": value.shape, "start": start}
        if isinstance(value, dict):
            return {key: packed(inner) for key, inner in value.items()}
        return [packed(inner) for inner in value] if isinstance(value, list) else value

    stored = {"page": packed(page)}
    stored["arrays"] = base64.b64encode(zlib.compress(data, 9)).decode()
    return json.dumps(stored).replace("<", "\\u003c")


# ---------------------------------------------------------------- the arithmetic


def decode(model, z):
    """Images (n, 784) of codes z (n, d), computed as the page computes them.

    `model` is one of the models of `read`.

    Raises:
        ValueError: z is not finite, or has another shape.
    """
    z, dimensions = np.asarray(z, "float64"), model["dimensions"]
    if z.ndim != 2 or z.shape[1] != dimensions or not np.isfinite(z).all():
        raise ValueError(
            f"z must be finite codes (n, {dimensions}); "
            f"got the shape {z.shape}, or values that are not finite."
        )
    return _forward(model["decoder"], z)


def encode(model, x):
    """z_mean and z_log_var of images x (n, 784), each (n, d), as the page does.

    For an autoencoder, the codes and None.
    """
    return _split(model, _forward(model["encoder"], vh.check_images(x)))


def score(model, x):
    """-ELBO of images x (n, 784) in nats, (n,), as the page estimates it.

    The mean over the page's fixed draws of z; for an autoencoder, the reconstruction
    error of the code in nats.
    """
    return _score(model, x, model["noise"])


def _noise(dimensions, seed):
    """Draws (2 n, d) from N(0, I) in pairs, with mean 0 and covariance I exactly.

    With n = d pairs they are the corners of a turned cross-polytope, which integrate
    polynomials up to the third degree exactly; see A. H. Stroud, Approximate
    Calculation of Multiple Integrals (1971). So few draws otherwise have a spread of
    their own: -ELBO would be wrong by a nat.
    """
    count = max(PAIRS, dimensions)
    half = np.random.default_rng(seed).normal(size=(count, dimensions))
    left, _, right = np.linalg.svd(half, full_matrices=False)
    half = count**0.5 * left @ right
    return np.concatenate([half, -half])


def _score(model, x, noise):
    """-ELBO (n,) of images x (n, 784) in nats, with draws `noise` (k, d)."""
    z_mean, z_log_var = encode(model, x)
    sd = 0 if z_log_var is None else np.exp(0.5 * z_log_var)
    kl = 0 if z_log_var is None else vh.kl_to_prior(z_mean, z_log_var)
    errors = [vh.bernoulli_nll(x, decode(model, z_mean + sd * draw)) for draw in noise]
    return np.mean(errors, axis=0) + np.sum(kl, axis=-1)


def _forward(layers, x):
    x = np.asarray(x, "float64")  # as JavaScript computes
    for layer in layers:
        activation = keras.activations.get(layer["activation"])
        sums = x @ layer["kernel"].astype("float64")
        x = np.asarray(activation(sums * layer["scale"] + layer["bias"]))
    return x


def _split(model, codes):
    dimensions = model["dimensions"]
    is_vae = codes.shape[1] == 2 * dimensions
    return codes[:, :dimensions], codes[:, dimensions:] if is_vae else None


# ---------------------------------------------------------------- what it holds


def _described(encoder, decoder, x):
    """What the page holds of one model: weights, codes, plane, density, differences."""
    z_mean, z_log_var = _encode(encoder, x)
    dimensions, is_vae = z_mean.shape[1], z_log_var is not None
    kind = "VAE" if is_vae else "Autoencoder"
    noise = _noise(dimensions, vh.SEED) if is_vae else np.zeros((1, dimensions))
    exact = {
        "name": f"{kind}, {dimensions} dimension{'s' * (dimensions != 1)}",
        "dimensions": dimensions,
        "encoder": _dense_layers(encoder, "encoder", 784),
        "decoder": _dense_layers(decoder, "decoder", dimensions),
        "noise": noise.astype("float32"),
    }
    width = len(exact["decoder"][-1]["bias"])
    if width != 784:
        raise ValueError(f"decoder must return images of 784 pixels, not {width}.")
    model = exact | {part: _rounded(exact[part], STEPS[part]) for part in STEPS}
    if is_vae:
        use = np.asarray(vh.kl_to_prior(z_mean, z_log_var)).mean(axis=0)
    else:
        use = z_mean.std(axis=0)
    model |= {"unit": "nats" if is_vae else "sd", "use": use.round(6).tolist()}
    model["differences"] = _compare(model, exact, x[:CHECKED])
    model["sampling_sd"] = _sampling_sd(exact, x[:CHECKED]) if is_vae else 0.0
    codes = z_mean[:SHOWN]
    model["near"] = _reach(codes)
    scale = float(np.abs(codes).max()) / 32767 or 1.0
    model |= {"codes": np.rint(codes / scale).astype("int16"), "scale": scale}
    model |= _plane(z_mean, z_log_var)
    shown = x[:SHOWN]
    excess = score(exact, shown) - vh.bernoulli_nll(shown, shown)  # the pixels' entropy
    model["excess"] = np.quantile(excess, np.linspace(0, 1, 101)).astype("float32")
    return model


def _draws(model):
    """Codes (`CHECKED`, d) from N(0, I), always the same."""
    return np.random.default_rng(vh.SEED).normal(size=(CHECKED, model["dimensions"]))


def _compare(model, exact, x):
    """The largest differences between the page and the model in double precision.

    Of pixels, decoded from `_draws` and from the codes of images x; of those codes; and
    of -ELBO in nats. Double precision, because in Keras' float32 a pixel near 1 is
    rounded by up to 3e-8, where -log(1 - pixel) is clipped at 1e-7: an autoencoder with
    such pixels can be wrong by 30 nats.
    """
    z_mean, _ = encode(exact, x)
    z = np.concatenate([_draws(exact), z_mean])
    differences = {
        "pixels": decode(model, z) - decode(exact, z),
        "codes": encode(model, x)[0] - z_mean,
        "nats": score(model, x) - score(exact, x),
    }
    # The page prints three decimals. Rounded up, they remain an upper bound.
    return {k: math.ceil(1000 * np.abs(v).max()) / 1000 for k, v in differences.items()}


def _sampling_sd(exact, x):
    """The standard deviation of -ELBO of images x over ten sets of draws, in nats."""
    sets = [_score(exact, x, _noise(exact["dimensions"], s)) for s in range(10)]
    return float(np.var(sets, axis=0, ddof=1).mean() ** 0.5)


def _reach(codes):
    """How far from a code (n, d) its fourth neighbour is, for 95% of the codes."""
    squares = (codes.astype("float64") ** 2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * codes @ codes.T.astype("float64")
    fourth = np.sort(distances, axis=1)[:, min(4, len(codes) - 1)]
    return float(np.quantile(fourth.clip(0) ** 0.5, 0.95))


def _plane(z_mean, z_log_var):
    """The plane of the map, and what lies on it.

    With two dimensions it is the code space; with more, the plane through the mean of
    all codes along their first two principal components. A point p of the plane is the
    code centre + p @ axes.

    Returns:
        centre (d,), axes (2, d); middle (2,) and half, the square that the map shows;
        explained, the plane's share of the codes' variance; crowd (CELLS, CELLS), the
        density of codes relative to its maximum as a square root in 0 to 255; gaps
        (CELLS, CELLS), 1 where the density is below `GAP` times the prior's; and
        gap_share, the fraction of draws from the prior that lie there on the plane.
    """
    dimensions = z_mean.shape[1]
    centre, axes, explained = np.zeros(dimensions), np.eye(2, dimensions), 1.0
    if dimensions > 2:
        centre = z_mean.mean(axis=0, dtype="float64")
        _, sizes, rows = np.linalg.svd(z_mean - centre, full_matrices=False)
        axes = np.zeros((2, dimensions))
        axes[: len(rows[:2])] = rows[:2]
        axes *= np.sign(axes[[0, 1], np.abs(axes).argmax(axis=1)])[:, None]
        explained = float((sizes[:2] ** 2).sum() / max((sizes**2).sum(), 1e-12))
    points, prior = (z_mean - centre) @ axes.T, -centre @ axes.T
    corners = np.concatenate([points[:SHOWN], prior + 3.0, prior - 3.0], axis=None)
    corners = corners.reshape(-1, 2)
    low, high = corners.min(axis=0), corners.max(axis=0)
    middle, half = (low + high) / 2, float(1.04 * (high - low).max() / 2)
    # Each image's cloud on the plane; a code without a cloud gets Scott's kernel.
    if z_log_var is None:
        kernel = np.cov(points.T) * len(points) ** (-1 / 3) if len(points) > 1 else 0
        covariance = np.broadcast_to(kernel, (len(points), 2, 2))
    else:
        covariance = np.einsum("ad,nd,bd->nab", axes, np.exp(z_log_var), axes)
    # A cloud narrower than a cell is spread over one.
    covariance = covariance + (half / CELLS) ** 2 * np.eye(2)
    steps = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1
    cells = middle + half * np.stack(np.meshgrid(steps, -steps), axis=-1)  # top first
    density = np.zeros((CELLS, CELLS))
    for point, inverse, size in zip(
        points, np.linalg.inv(covariance), np.linalg.det(covariance) ** -0.5
    ):
        dx, dy = cells[..., 0] - point[0], cells[..., 1] - point[1]
        form = inverse[0, 0] * dx**2 + 2 * inverse[0, 1] * dx * dy
        density += size * np.exp(-0.5 * (form + inverse[1, 1] * dy**2))
    density /= len(points)  # times 2 pi, as the prior's below
    expected = np.exp(-0.5 * ((cells - prior) ** 2).sum(axis=-1))
    gaps = density < GAP * expected
    return {
        "centre": centre.astype("float32"),
        "axes": axes.astype("float32"),
        "middle": middle.tolist(),
        "half": half,
        "explained": explained,
        "crowd": np.rint(255 * np.sqrt(density / density.max())).astype("uint8"),
        "gaps": (gaps & (expected > math.exp(-4.5))).astype("uint8"),  # within 3 sd
        "gap_share": float(expected[gaps].sum() / expected.sum()),
    }


def _encode(encoder, x):
    """z_mean and z_log_var of images x (n, 784), each (n, d), or codes and None."""
    if getattr(encoder, "input_shape", (None, 784)) != (None, 784):
        raise ValueError(
            "encoder must take images (n, 784); "
            f"this one takes the shape {encoder.input_shape}."
        )
    codes = encoder(x)
    codes = list(codes) if isinstance(codes, (list, tuple)) else [codes, None]
    if len(codes) != 2:
        raise ValueError(
            "encoder must return z_mean and z_log_var, or an autoencoder's codes; "
            f"this one returns {len(codes)} outputs."
        )
    codes = [None if code is None else np.asarray(code) for code in codes]
    if codes[1] is not None and codes[0].shape != codes[1].shape:
        raise ValueError(
            "z_mean and z_log_var must have one shape; "
            f"the encoder's have {codes[0].shape} and {codes[1].shape}."
        )
    if not all(code is None or np.isfinite(code).all() for code in codes):
        raise ValueError("encoder returns values that are not finite: retrain it.")
    return codes


def _dense_layers(model, name, width):
    """The layers of an encoder or decoder (`name`) that takes `width` numbers.

    Two last layers that take the same numbers, z_mean and z_log_var, become one.

    Returns:
        A list of dictionaries with activation, a name; kernel, (inputs, units); bias,
        (units,); and scale, 1, by which the page multiplies the kernel.

    Raises:
        ValueError: the page cannot compute a layer, or the shapes do not fit.
    """
    dense = []
    for layer in getattr(model, "layers", [model]):
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if not isinstance(layer, keras.layers.Dense):
            where, kind = getattr(layer, "name", name), type(layer).__name__
            raise ValueError(
                f"{name} must consist of Dense layers; '{where}' is of type {kind}."
            )
        where = f"layer '{layer.name}' of the {name}"
        function = layer.activation
        activation = getattr(function, "__name__", type(function).__name__)
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"{where} has the activation {activation}; "
                f"the page supports {', '.join(ACTIVATIONS)}."
            )
        kernel = np.asarray(layer.kernel)
        if not np.isfinite(kernel).all():
            raise ValueError(f"{where} has weights that are not finite: retrain it.")
        bias = np.asarray(layer.bias) if layer.use_bias else np.zeros(layer.units)
        dense.append((kernel, bias, activation, where))
    if len(dense) > 1 and len(getattr(model, "outputs", ())) == 2:
        *dense, mean, log_var = dense
        if mean[0].shape != log_var[0].shape or mean[2] != log_var[2]:
            raise ValueError(
                f"{name} must end in two layers of one size and activation, "
                "z_mean and z_log_var."
            )
        kernel, bias = (
            np.concatenate(both, axis=-1) for both in zip(mean[:2], log_var[:2])
        )
        dense.append((kernel, bias, *mean[2:]))
    for kernel, _, _, where in dense:
        if len(kernel) != width:
            raise ValueError(f"{where} takes {len(kernel)} inputs, but gets {width}.")
        width = kernel.shape[1]
    return [
        {"activation": activation, "kernel": kernel, "scale": 1.0, "bias": bias}
        for kernel, bias, activation, _ in dense
    ]


def _rounded(layers, step):
    """The layers of `_dense_layers` as the page stores them.

    Weights are rounded to multiples of the layer's scale: `step` times their standard
    deviation, times the square root of their number. So small layers, which cost
    little, are stored more exactly than large ones.
    """
    rounded = []
    for layer in layers:
        kernel = layer["kernel"].astype("float64")
        smallest = np.abs(kernel).max() / 32767
        scale = max(step * kernel.std() * kernel.size**0.5, smallest) or 1.0
        rounded.append({
            **layer,
            "kernel": np.rint(kernel / scale).astype("int16"),
            "scale": float(scale),
            "bias": layer["bias"].astype("float32"),
        })  # fmt: skip
    return rounded


# ---------------------------------------------------------------- in a notebook


def show(path):
    """Display the page at `path` in a notebook: a frame with the page, and a picture.

    The frame holds the page itself, so no server is needed, and a link that opens it in
    a new tab. Jupyter displays the frame in a trusted notebook, such as one that has
    just been run; elsewhere a picture of the first model's map is displayed.

    The notebook then contains the page, up to 4 MB: `tools.refresh.strip_explorer`
    removes it before a notebook is stored.

    Raises:
        OSError, ValueError: as `read`.
    """
    page, text = read(path), Path(path).read_text(encoding="utf-8")
    model = page["models"][0]
    inactive = [i for i, u in enumerate(model["use"]) if not u > page["threshold"]]
    note = "no dimension is inactive"
    if inactive:
        note = f"inactive dimensions: {', '.join(map(str, inactive))}"
    alt = (
        f"A map of the codes of {len(page['labels'])} garments, coloured by class "
        f"({model['name']}), and the images decoded at 49 places of it; {note}."
    )
    outputs = {"text/plain": alt, "text/html": iframe(f'srcdoc="{html.escape(text)}"')}
    if "google.colab" not in sys.modules:  # Colab would display both
        outputs["image/png"] = base64.b64encode(picture(page)).decode()
    metadata = {"image/png": {"alt": alt}, "explorer": Path(path).name}
    display(outputs, raw=True, metadata=metadata)


def iframe(source):
    """The HTML of a frame that is high enough for the page.

    `source` is the frame's attribute, such as 'src="explorer.html"'.
    """
    style = "width: 100%; height: 860px; border: 0"
    return (
        f'<iframe {source} title="The map of garments" loading="lazy" '
        f'style="{style}"></iframe>'
    )


def picture(page, dpi=90):
    """The first model's map, and the images decoded at 7 x 7 places of it, as PNG."""
    model, labels, side = page["models"][0], page["labels"], 7
    with plt.style.context("petroff10"):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(9, 4.5), layout="constrained"
        )
        points = (model["codes"] * model["scale"] - model["centre"]) @ model["axes"].T
        for label in np.unique(labels):
            own = points[labels == label]
            left.scatter(*own.T, s=5, color=f"C{label}", linewidth=0)
            left.annotate(
                page["classes"][label],
                np.median(own, axis=0),
                ha="center",
                fontsize=9,
                bbox={"boxstyle": "round,pad=0.1", "facecolor": "w", "linewidth": 0},
            )
    origin = -model["centre"] @ model["axes"].T
    for sd in (1, 2, 3):
        circle = plt.Circle(origin, sd, fill=False, color="0.3", linewidth=0.8)
        left.add_patch(circle)
    middle, half = np.array(model["middle"]), model["half"]
    # The images stand at the middles of equal squares, from the top left.
    steps = (np.arange(side) + 0.5) / side * 2 - 1
    places = middle + half * np.stack(np.meshgrid(steps, -steps), axis=-1)
    images = decode(model, model["centre"] + places.reshape(-1, 2) @ model["axes"])
    tiles = images.reshape(side, side, 28, 28).swapaxes(1, 2).reshape(side * 28, -1)
    right.imshow(tiles, "gray", vmin=0, vmax=1, interpolation="none")
    low, high = middle - half, middle + half
    left.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    left.set_title(f"codes, and N(0, I) at 1, 2, 3 sd: {model['name']}", fontsize=10)
    right.set_title("decoded at 49 places of the same map", fontsize=10)
    for axes in (left, right):
        axes.set(xticks=[], yticks=[])
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    plt.close(figure)
    return file.getvalue()
