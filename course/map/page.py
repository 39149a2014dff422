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
import sys
import zlib
from pathlib import Path

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

import course
from course.map import write_page

# The activations that the page's JavaScript has.
ACTIVATIONS = ("linear", "relu", "sigmoid")
THRESHOLD = 0.01  # a dimension is inactive if its mean KL (nats) or sd is not above
SHOWN = 1000  # garments on the map; more would exceed 4 MB with three models
# Of the rounded weights, see `_rounded`. A code must be exact, compared with its cloud.
STEPS = {"encoder": 2e-5, "decoder": 6e-5}
PAIRS = 8  # of z and its negative: so many, or one a dimension, estimate -ELBO
ALT = (
    "What is decoded at 14 x 14 places of the map, with the codes of 1,000 garments, "
    "coloured and named by class; four places on the way from boot to bag enlarged."
)

# A ring on the map, as the pages' icon.
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'"
    "%3E%3Crect width='16' height='16' rx='3' fill='%230b5cad'/%3E%3Ccircle cx='8' "
    "cy='8' r='4.5' fill='none' stroke='%23fff' stroke-width='2.5'/%3E%3C/svg%3E"
)

# ---------------------------------------------------------------- the page


def write(path, encoder, decoder, x, labels, others=()):
    """Write the page of one or several models (about 4 MB for the course's three).

    Args:
        path: the file to write.
        encoder: Dense layers in sequence with `ACTIVATIONS`, from images (n, 784) to
            z_mean and z_log_var, each (n, d), or to codes (n, d) for an autoencoder.
        decoder: Dense layers in sequence, (n, d) -> (n, 784).
        x: two or more images (n, 784) in [0, 1], not used in training. The first
            1,000 are on the map. All give the plane and each dimension's mean KL.
        labels: the classes of `x`, (n,), integers from 0 to 9.
        others: further models for the same page, pairs (encoder, decoder).

    Returns:
        The path of the page, for `show`.

    Raises:
        OSError: the file cannot be written.
        ValueError: an image is not as described, or a layer is none that the page can
            compute. The message says which and why.
    """
    x, shown = vh.check_images(x).astype("float32"), np.asarray(labels[:SHOWN])
    page = {
        "models": [describe(*pair, x) for pair in [(encoder, decoder), *others]],
        "classes": vh.CLASS_NAMES,
        "labels": shown.astype("uint8"),
        "pictures": np.rint(x[:SHOWN] * 255).astype("uint8"),
        "threshold": THRESHOLD,
    }
    return write_page(path, "page.html", data=_packed(page), icon=ICON)


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


# ---------------------------------------------------------------- what it holds


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


def describe(encoder, decoder, x):
    """What the page holds of one model: weights, codes and plane (a dict)."""
    codes = encoder.predict(x, batch_size=1000, verbose=0)
    z_mean, z_log_var = codes if isinstance(codes, list) else (codes, None)
    dimensions, is_vae = z_mean.shape[1], z_log_var is not None
    noise = _noise(dimensions, vh.SEED) if is_vae else np.zeros((1, dimensions))
    scale = float(np.abs(z_mean[:SHOWN]).max()) / 32767 or 1.0
    use = np.std(z_mean, axis=0)
    if is_vae:
        use = np.mean(vh.kl_to_prior(z_mean, z_log_var), axis=0)
    kind = "VAE" if is_vae else "Autoencoder"
    return {
        "name": f"{kind}, {dimensions} dimension{'s' * (dimensions != 1)}",
        "dimensions": dimensions,
        "encoder": _rounded(_dense_layers(encoder), STEPS["encoder"]),
        "decoder": _rounded(_dense_layers(decoder), STEPS["decoder"]),
        "noise": noise.astype("float32"),
        "unit": "nats" if is_vae else "sd",
        "use": use.round(6).tolist(),
        "near": _reach(z_mean[:SHOWN]),
        "codes": np.rint(z_mean[:SHOWN] / scale).astype("int16"),
        "scale": scale,
        "excess": _excess(decoder, x[:SHOWN], z_mean, z_log_var, noise),
        **_plane(z_mean),
    }


def _excess(decoder, x, z_mean, z_log_var, noise):
    """Percentiles (101,) over images x of -ELBO minus the pixels' entropy, in nats."""
    z_mean, sd = z_mean[: len(x)], 0
    excess = -np.asarray(vh.bernoulli_nll(x, x))
    if z_log_var is not None:
        z_log_var = z_log_var[: len(x)]
        sd = np.exp(0.5 * z_log_var)
        excess += np.sum(vh.kl_to_prior(z_mean, z_log_var), axis=1)
    for draw in noise.astype("float32"):
        x_hat = decoder.predict(z_mean + sd * draw, batch_size=1000, verbose=0)
        excess += np.asarray(vh.bernoulli_nll(x, x_hat)) / len(noise)
    return np.quantile(excess, np.linspace(0, 1, 101)).astype("float32")


def _reach(codes):
    """How far from a code (n, d) its fourth neighbour is, for 95% of the codes."""
    nearest = NearestNeighbors(n_neighbors=min(4, len(codes) - 1)).fit(codes)
    distances, _ = nearest.kneighbors()
    return float(np.quantile(distances[:, -1], 0.95))


def _plane(z_mean):
    """The plane of the map.

    With two dimensions it is the code space; with more, the plane through the mean of
    all codes along their first two principal components. A point p of the plane is the
    code centre + p @ axes.

    Returns:
        centre (d,), axes (2, d); middle (2,) and half, the square that the map shows;
        and explained, the plane's share of the codes' variance.
    """
    dimensions = z_mean.shape[1]
    centre, axes, explained = np.zeros(dimensions), np.eye(2, dimensions), 1.0
    if dimensions > 2:
        with np.errstate(invalid="ignore"):  # codes may be all the same
            pca = PCA(2, svd_solver="full").fit(z_mean.astype("float64"))
        centre, axes = pca.mean_, pca.components_
        explained = float(np.nan_to_num(pca.explained_variance_ratio_).sum())
    points, prior = (z_mean - centre) @ axes.T, -centre @ axes.T
    corners = np.vstack([points[:SHOWN], prior + 3.0, prior - 3.0])
    low, high = corners.min(axis=0), corners.max(axis=0)
    middle, half = (low + high) / 2, float(1.04 * (high - low).max() / 2)
    return {
        "centre": centre.astype("float32"),
        "axes": axes.astype("float32"),
        "middle": middle.tolist(),
        "half": half,
        "explained": explained,
    }


def _dense_layers(model):
    """The layers of an encoder or decoder: dictionaries of activation, kernel and bias.

    Two heads of an encoder, z_mean and z_log_var, become one layer.

    Raises:
        ValueError: the page cannot compute a layer.
    """
    dense = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        activation = getattr(getattr(layer, "activation", None), "__name__", None)
        if not isinstance(layer, keras.layers.Dense) or activation not in ACTIVATIONS:
            raise ValueError(
                f"The page cannot compute layer '{layer.name}': it knows Dense layers "
                f"with the activation {', '.join(ACTIVATIONS)}."
            )
        kernel, *bias = layer.get_weights()
        bias = bias[0] if bias else np.zeros(layer.units)
        dense.append({"activation": activation, "kernel": kernel, "bias": bias})
    if len(model.outputs) == 2:
        *dense, mean, log_var = dense
        for part in ("kernel", "bias"):
            mean[part] = np.concatenate([mean[part], log_var[part]], axis=-1)
        dense.append(mean)
    return dense


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
    just been run; elsewhere a picture of the course's own map is displayed.

    The notebook then contains the page, up to 4 MB: `tools.refresh.strip_explorer`
    removes it before a notebook is stored.
    """
    text = Path(path).read_text(encoding="utf-8")
    outputs = {"text/plain": ALT, "text/html": iframe(f'srcdoc="{html.escape(text)}"')}
    if "google.colab" not in sys.modules:  # Colab would display both
        png = (course.ASSETS / "map.png").read_bytes()
        outputs["image/png"] = base64.b64encode(png).decode()
    metadata = {"image/png": {"alt": ALT}, "explorer": Path(path).name}
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


def picture(encoder, decoder, x, labels):
    """The map of a two-dimensional VAE, with four of its places enlarged, as PNG."""
    codes, side, limit = encoder.predict(x, verbose=0)[0], 14, 2.8
    # The images stand at the middles of equal squares, from the top left.
    steps = limit * ((np.arange(side) + 0.5) / side * 2 - 1)
    places = np.stack(np.meshgrid(steps, -steps), axis=-1).reshape(-1, 2)
    boot, bag = (np.median(codes[labels == label], axis=0) for label in (9, 8))
    way = np.linspace(boot, 1.6 * bag, 4)  # on to where no other garment is near
    images = decoder.predict(np.vstack([places, way]), verbose=0)
    tiles = images[:-4].reshape(side, side, 28, 28).swapaxes(1, 2)
    four = images[-4:].reshape(2, 2, 28, 28).swapaxes(1, 2)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 4.73), layout="constrained", facecolor="black"
    )
    left.imshow(tiles.reshape(side * 28, -1), "gray", extent=2 * (-limit, limit))
    left.set(xlim=(-limit, limit), ylim=(-limit, limit))
    vh.scatter_classes(left, codes, labels)
    left.plot(*way.T, "o-", markersize=9, markerfacecolor="none", color="w", mew=2)
    right.imshow(four.reshape(56, 56), "gray")
    right.set_title("from boot to bag", fontsize=15, color="white")
    for axes in (left, right):
        axes.set(xticks=[], yticks=[])
    drawn, file = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=133)
    plt.close(figure)
    few = Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE)
    few.save(file, "PNG", optimize=True)
    return file.getvalue()
