"""The latent space to play with: a page of sliders for a browser, and interpolations that move.

    page = explorer.write("explorer.html", encoder, decoder, x, labels)
    explorer.show(page)

`write` makes one HTML page that needs nothing else: the decoder's weights as 8-bit integers,
and plain JavaScript that decodes with them. `show` puts the page into a notebook. `animate` plays a walk as an animated PNG.
"""

import base64
import html
import io
import json
import re
import sys
import tempfile
from pathlib import Path

import vae_helpers as vh  # isort: skip  (before Keras)

import keras
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from PIL import Image

import course
from course.files import write_text

TEMPLATE = course.ASSETS / "explorer.html"
ACTIVATIONS = (
    "linear",
    "relu",
    "gelu",
    "sigmoid",
    "tanh",
)  # those that the page's JavaScript knows
THRESHOLD = 0.01  # nats; a dimension with no more KL than this carries nothing
DRAWS = 200  # codes from the prior on which the page is compared with Keras


# ---------------------------------------------------------------- the page


def write(path, encoder, decoder, x, labels, title="The latent space explorer"):
    """Write the explorer of a VAE to `path`: one HTML page, about 0.8 MB for the course's decoder.

    Args:
        encoder: gives z_mean and z_log_var, (n, d) each, for images (n, 784).
        decoder: Dense layers one after the other, (n, d) -> (n, 784), with `ACTIVATIONS`.
        x: images (n, 784) in [0, 1]. Their mean KL says which dimensions carry nothing, and
            the first two of each class are offered for picking.
        labels: the classes of `x`, (n,), 0 to 9.

    Returns:
        Where the page is, for `show`: `path` or, where that cannot be written, a temporary file, which is said.

    Raises:
        ValueError: one of these is something else. The message says which and what.
    """
    x, labels = vh.check_images(x).astype("float32"), np.asarray(labels)
    if labels.shape != (len(x),) or not np.isin(labels, range(10)).all():
        raise ValueError(
            f"labels must be {len(x)} classes from 0 to 9, one for each image; got {labels.shape}."
        )
    if getattr(encoder, "input_shape", (None, 784)) != (None, 784):
        raise ValueError(
            f"encoder must take images (n, 784); this one takes {encoder.input_shape}."
        )
    codes = encoder(x)
    if not isinstance(codes, (list, tuple)) or len(codes) != 2:
        raise ValueError(
            "encoder must give z_mean and z_log_var; this one, like an autoencoder's, gives one array."
        )
    z_mean, z_log_var = map(np.asarray, codes)
    if not (np.isfinite(z_mean).all() and np.isfinite(z_log_var).all()):
        raise ValueError(
            "encoder gives numbers that are not finite for x: train it anew."
        )
    dimensions = z_mean.shape[1]
    garments = [
        {"name": f"{name} {number}", "z": z_mean[i].round(4).tolist()}
        for label, name in enumerate(vh.CLASS_NAMES)
        for number, i in enumerate(np.flatnonzero(labels == label)[:2], 1)
    ]
    kl = np.asarray(vh.kl_to_prior(z_mean, z_log_var)).mean(axis=0)
    model = {
        "layers": _rounded(_dense_layers(decoder, dimensions), dimensions),
        "kl": kl.round(6).tolist(),
    }
    z = (
        np.random.default_rng(vh.SEED)
        .normal(size=(DRAWS, dimensions))
        .astype("float32")
    )
    expected = np.asarray(decoder(z))
    difference = np.abs(decode(model, z) - expected)
    if not difference.mean() <= 0.1 * expected.std():  # nan too
        raise ValueError(
            "decoder computes something other than its Dense layers one after the other."
        )
    model |= {
        "garments": garments,
        "threshold": THRESHOLD,
        "draws": DRAWS,
        "difference": float(difference.max()),
    }
    page = TEMPLATE.read_text(encoding="utf-8").replace("{{title}}", html.escape(title))
    page, path = (
        page.replace("{{model}}", json.dumps(model).replace("<", "\\u003c")),
        Path(path),
    )
    try:
        write_text(path, page)
    except OSError as error:
        path = Path(tempfile.mkdtemp(), path.name)
        write_text(path, page)
        print(f"{error} Until then it is {path}")
    return path


def read(path):
    """What the page at `path` knows of its VAE: layers, kl, garments, difference (a dictionary).

    Raises:
        FileNotFoundError, ValueError: there is no such file, or `write` did not make it.
    """
    page = Path(path).read_text(encoding="utf-8", errors="replace")
    found = re.search(
        r'<script type="application/json" id="model">(.*?)</script>', page
    )
    if not found:
        raise ValueError(f"{Path(path).name} is not a page that explorer.write made.")
    return json.loads(found[1])


def decode(model, z):
    """The page's own arithmetic: images (n, 784) of codes z (n, d), from what `read` gives."""
    x = np.asarray(z, "float32")
    if x.ndim != 2 or x.shape[1] != len(model["kl"]) or not np.isfinite(x).all():
        raise ValueError(
            f"z must be finite codes (n, {len(model['kl'])}), not {x.shape}."
        )
    for layer in model["layers"]:
        kernel = np.frombuffer(base64.b64decode(layer["kernel"]), np.int8).reshape(
            x.shape[1], -1
        )
        scale, bias = (
            np.frombuffer(base64.b64decode(layer[name]), "<f4")
            for name in ("scale", "bias")
        )
        x = np.asarray(
            keras.activations.get(layer["activation"])(
                x @ kernel.astype("float32") * scale + bias
            )
        )
    return x


def _dense_layers(decoder, dimensions):
    """(kernel, bias, activation) of each layer of a decoder (n, dimensions) -> (n, 784)."""
    found, width = [], dimensions
    for layer in getattr(decoder, "layers", [decoder]):
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if not isinstance(layer, keras.layers.Dense):
            name = getattr(layer, "name", "decoder")
            raise ValueError(
                f"decoder must be made of Dense layers; '{name}' is a {type(layer).__name__}."
            )
        activation = getattr(
            layer.activation, "__name__", type(layer.activation).__name__
        )
        if activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(
                f"'{layer.name}' of the decoder has the activation {activation}; the page knows {known}."
            )
        kernel = np.asarray(layer.kernel)
        if not np.isfinite(kernel).all():
            raise ValueError(
                f"'{layer.name}' of the decoder has weights that are not finite: train it anew."
            )
        if len(kernel) != width:
            raise ValueError(
                f"'{layer.name}' of the decoder takes {len(kernel)} numbers, but gets {width}."
            )
        width = layer.units
        found.append(
            (
                kernel,
                np.asarray(layer.bias) if layer.use_bias else np.zeros(width),
                activation,
            )
        )
    if width != 784 or not found:
        raise ValueError(f"decoder must give images of 784 pixels, not {width}.")
    return found


def _rounded(layers, dimensions):
    """The layers with kernels as int8, one scale for each column, everything in base64.

    Rounding each weight by itself would change a pixel by up to 0.08. Here the weights of a
    column make up for each other's rounding on draws from the prior: what row i lost, the rows
    below it are told to add (Frantar and others 2023, "GPTQ", arXiv:2210.17323, algorithm 1).
    """
    x, rounded = np.random.default_rng(vh.SEED + 1).normal(size=(4000, dimensions)), []
    for kernel, bias, activation in layers:
        left, whole = kernel.astype("float64"), np.empty(kernel.shape, np.int8)
        scale = np.abs(left).max(axis=0) / 127
        scale[scale == 0] = 1  # a column of zeros
        scatter = x.T @ x
        scatter += (1e-4 * scatter.diagonal().mean() + 1e-9) * np.eye(len(scatter))
        weights = np.linalg.cholesky(np.linalg.inv(scatter)).T
        for i in range(len(left)):
            whole[i] = np.rint(left[i] / scale).clip(-127, 127)
            lost = (left[i] - whole[i] * scale) / weights[i, i]
            left[i + 1 :] -= np.outer(weights[i, i + 1 :], lost)
        x = np.asarray(
            keras.activations.get(activation)(
                (x @ (whole * scale) + bias).astype("float32")
            ),
            "float64",
        )
        arrays = {
            "kernel": whole,
            "scale": scale.astype("<f4"),
            "bias": bias.astype("<f4"),
        }
        coded = {
            name: base64.b64encode(array.tobytes()).decode()
            for name, array in arrays.items()
        }
        rounded.append({"activation": activation, **coded})
    return rounded


# ---------------------------------------------------------------- the page in a notebook


def show(path):
    """Show the page at `path` in a notebook: a frame with the page, and a picture of its start for those without.

    The frame holds the page itself, so that no server has to deliver it, and a link that opens it
    in a tab of its own. Jupyter shows the frame where a notebook is trusted, as after running it.
    Saved like this the notebook holds the page, about 0.8 MB: `tools.refresh.strip_explorer`
    removes it before a notebook is stored.
    """
    model, page = read(path), Path(path).read_text(encoding="utf-8")
    kl = np.array(model["kl"])
    idle = [str(i) for i in np.flatnonzero(~(kl > model["threshold"]))]
    marked = (
        f"marked as carrying nothing: {', '.join(idle)}"
        if idle
        else "none marked as carrying nothing"
    )
    alt = f"The explorer at its start: a decoded garment, {len(kl)} sliders, one for each dimension, at 0; {marked}."
    frame = iframe(f'srcdoc="{html.escape(page)}"', len(kl))
    shown = {"text/plain": alt, "text/html": frame}
    if "google.colab" not in sys.modules:  # Colab would show both
        shown["image/png"] = base64.b64encode(_picture(model)).decode()
    display(
        shown,
        raw=True,
        metadata={"image/png": {"alt": alt}, "explorer": Path(path).name},
    )


def iframe(source, dimensions):
    """The HTML of a frame with the page."""
    style = f"width: 100%; height: {max(560, 36 * dimensions + 280)}px; border: 0"
    return f'<iframe {source} title="Explorer of the latent space" style="{style}"></iframe>'


def _picture(model):
    """The start of the explorer as a PNG: the decoded origin and the sliders, most used first."""
    kl = np.array(model["kl"])
    order = np.argsort(-kl)
    height = max(2.6, 0.24 * len(kl) + 0.3)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(7, height), width_ratios=[1, 1.6], layout="constrained"
    )
    left.imshow(
        decode(model, np.zeros((1, len(kl)))).reshape(28, 28),
        "gray",
        vmin=0,
        vmax=1,
        interpolation="none",
    )
    left.set(xticks=[], yticks=[])
    right.hlines(range(len(kl)), -3, 3, color="0.75", linewidth=3)
    right.plot(np.zeros(len(kl)), range(len(kl)), "o", color="#0b5cad")
    words = [
        f"{kl[i]:.2f} nats" if kl[i] > model["threshold"] else "carries nothing"
        for i in order
    ]
    right.set_yticks(
        range(len(kl)), [f"dimension {i}   {said}" for i, said in zip(order, words)]
    )
    right.tick_params(left=False)
    right.spines[:].set_visible(False)
    right.set(xticks=[-3, 0, 3], ylim=(len(kl) - 0.5, -0.5))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=90, metadata={"Software": None})
    plt.close(figure)
    return file.getvalue()


# ---------------------------------------------------------------- animation


def animate(frames, alt):
    """Play a walk in a notebook: an animated PNG, three seconds there and three back, beside twelve of its frames.

    The film strip is in every frame, for print and for readers that know no animation.

    Args:
        frames: images (n, 784) in [0, 1], in order, such as `decoder(a + t * (b - a))`. With
            n = 31 the file has about 60 kB.
        alt: the alternative text.

    Raises:
        ValueError: frames are not two or more images.
    """
    frames = vh.check_images(frames, "frames")
    if len(frames) < 2:
        raise ValueError(
            f"frames must be two or more images (n, 784), not an array {frames.shape}."
        )
    images = np.rint(frames.clip(0, 1) * 255).astype("uint8").reshape(-1, 28, 28)
    sheet = np.full((172, 168 + 12 + 6 * 88 - 4), 255, "uint8")
    for place, i in enumerate(
        np.linspace(0, len(images) - 1, min(12, len(images))).round().astype(int)
    ):
        top, left = 88 * (place // 6), 180 + 88 * (place % 6)
        sheet[top : top + 84, left : left + 84] = (
            images[i].repeat(3, axis=0).repeat(3, axis=1)
        )
    order = [*range(len(images)), *range(len(images) - 2, 0, -1)]
    pictures = []
    for i in order:
        sheet[2:170, :168] = images[i].repeat(6, axis=0).repeat(6, axis=1)
        pictures.append(Image.fromarray(sheet.copy()))
    times = [
        round(3000 / (len(images) - 1) + 500 * (i in (0, len(images) - 1)))
        for i in order
    ]  # ms, a rest at the ends
    file = io.BytesIO()
    pictures[0].save(
        file,
        "PNG",
        save_all=True,
        append_images=pictures[1:],
        duration=times,
        loop=0,
        optimize=True,
    )
    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": alt}
    display(data, raw=True, metadata={"image/png": {"alt": alt}})
