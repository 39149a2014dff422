"""The explorer of a VAE's latent space, and animated interpolations.

    page = explorer.write("explorer.html", encoder, decoder, x, labels)
    explorer.show(page)

`write` makes one self-contained HTML page: sliders, the decoder's weights as 8-bit
integers, and plain JavaScript that decodes with them. `show` displays the page in a
notebook. `animate` displays an interpolation as an animated PNG.
"""

import base64
import html
import io
import json
import math
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
# The activations that the page's JavaScript has.
ACTIVATIONS = ("linear", "relu", "gelu", "sigmoid", "tanh")
THRESHOLD = 0.01  # nats; a dimension whose mean KL is not above this is inactive
DRAWS = 200  # codes from the prior on which the page is compared with Keras


# ---------------------------------------------------------------- the page


def write(path, encoder, decoder, x, labels, title="The latent space explorer"):
    """Write the explorer of a VAE, one HTML page (0.8 MB for the course's decoder).

    Args:
        path: the file to write.
        encoder: maps images (n, 784) to z_mean and z_log_var, each (n, d).
        decoder: Dense layers in sequence, (n, d) -> (n, 784), with `ACTIVATIONS`.
        x: images (n, 784) in [0, 1]. Their mean KL decides which dimensions are marked
            as inactive, and the first two images of each class can be selected.
        labels: the classes of `x`, (n,), integers from 0 to 9.
        title: the page's title, plain text.

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
    z_mean, z_log_var = _encode(encoder, x)
    dimensions = z_mean.shape[1]
    kl = np.asarray(vh.kl_to_prior(z_mean, z_log_var)).mean(axis=0)
    model = {
        "layers": _quantize(_dense_layers(decoder, dimensions)),
        "kl": kl.round(6).tolist(),
    }
    z = np.random.default_rng(vh.SEED).normal(size=(DRAWS, dimensions))
    z = z.astype("float32")
    expected = np.asarray(decoder(z))
    difference = np.abs(decode(model, z) - expected)
    if not difference.mean() <= 0.1 * expected.std():  # NaN fails this comparison
        raise ValueError(
            "decoder must compute its Dense layers in sequence and nothing else; "
            "the output of this one differs."
        )
    model |= {
        "garments": [
            {"name": f"{name} {number}", "z": z_mean[i].round(4).tolist()}
            for label, name in enumerate(vh.CLASS_NAMES)
            for number, i in enumerate(np.flatnonzero(labels == label)[:2], 1)
        ],
        "threshold": THRESHOLD,
        "draws": DRAWS,
        # The page prints three decimals. Rounded up, they remain an upper bound.
        "difference": math.ceil(1000 * float(difference.max())) / 1000,
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    text = text.replace("{{title}}", html.escape(title))
    text = text.replace("{{model}}", json.dumps(model).replace("<", "\\u003c"))
    path = Path(path)
    try:
        write_text(path, text)
    except OSError as error:
        path = Path(tempfile.mkdtemp(), path.name)
        write_text(path, text)
        print(f"{error} For now, the page is {path}")
    return path


def read(path):
    """The model in the page at `path`: a dictionary with layers, kl, garments, ...

    Raises:
        OSError: the file cannot be read.
        ValueError: the file was not made by `write`.
    """
    page = Path(path).read_text(encoding="utf-8", errors="replace")
    script = r'<script type="application/json" id="model">(.*?)</script>'
    match = re.search(script, page)
    if not match:
        raise ValueError(f"{Path(path).name} is not a page that explorer.write made.")
    return json.loads(match[1])


def decode(model, z):
    """Images (n, 784) of codes z (n, d), computed as the page computes them.

    `model` is what `read` returns.

    Raises:
        ValueError: z is not finite, or has another shape.
    """
    x, dimensions = np.asarray(z, "float32"), len(model["kl"])
    if x.ndim != 2 or x.shape[1] != dimensions or not np.isfinite(x).all():
        raise ValueError(
            f"z must be finite codes (n, {dimensions}); "
            f"got the shape {x.shape}, or values that are not finite."
        )
    for layer in model["layers"]:
        kernel, scale, bias = (
            np.frombuffer(base64.b64decode(layer[name]), kind)
            for name, kind in (("kernel", "i1"), ("scale", "<f4"), ("bias", "<f4"))
        )
        kernel = kernel.reshape(x.shape[1], -1).astype("float32")
        activation = keras.activations.get(layer["activation"])
        x = np.asarray(activation(x @ kernel * scale + bias))
    return x


def _encode(encoder, x):
    """z_mean and z_log_var of images x (n, 784), each (n, d), checked."""
    if getattr(encoder, "input_shape", (None, 784)) != (None, 784):
        raise ValueError(
            "encoder must take images (n, 784); "
            f"this one takes the shape {encoder.input_shape}."
        )
    codes = encoder(x)
    if not isinstance(codes, (list, tuple)) or len(codes) != 2:
        raise ValueError(
            "encoder must return z_mean and z_log_var; "
            "this one returns something else, as an autoencoder's does."
        )
    z_mean, z_log_var = map(np.asarray, codes)
    if not (np.isfinite(z_mean).all() and np.isfinite(z_log_var).all()):
        raise ValueError("encoder returns values that are not finite: retrain it.")
    return z_mean, z_log_var


def _dense_layers(decoder, dimensions):
    """The layers of a decoder (n, dimensions) -> (n, 784).

    Returns:
        [(kernel, bias, activation)]: arrays (inputs, units) and (units,), and a name.

    Raises:
        ValueError: the page cannot compute a layer, or the shapes do not fit.
    """
    dense, width = [], dimensions
    for layer in getattr(decoder, "layers", [decoder]):
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if not isinstance(layer, keras.layers.Dense):
            name, kind = getattr(layer, "name", "decoder"), type(layer).__name__
            raise ValueError(
                f"decoder must consist of Dense layers; '{name}' is of type {kind}."
            )
        where = f"layer '{layer.name}' of the decoder"
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
        if len(kernel) != width:
            raise ValueError(f"{where} takes {len(kernel)} inputs, but gets {width}.")
        width = layer.units
        bias = np.asarray(layer.bias) if layer.use_bias else np.zeros(width)
        dense.append((kernel, bias, activation))
    if width != 784 or not dense:
        raise ValueError(f"decoder must return images of 784 pixels, not {width}.")
    return dense


def _quantize(layers):
    """The layers of `_dense_layers` as the page stores them, arrays as base64 text.

    Kernels are int8 with one float32 scale for each column: the column's largest weight
    becomes ±127, and every weight is rounded to the nearest integer by itself.
    """
    stored = []
    for kernel, bias, activation in layers:
        kernel = kernel.astype("float64")
        scale = np.abs(kernel).max(axis=0) / 127
        scale[scale == 0] = 1  # a column of zeros
        arrays = {
            "kernel": np.rint(kernel / scale).astype("int8"),
            "scale": scale.astype("<f4"),
            "bias": bias.astype("<f4"),
        }
        stored.append({"activation": activation})
        for name, array in arrays.items():
            stored[-1][name] = base64.b64encode(array.tobytes()).decode()
    return stored


# ---------------------------------------------------------------- in a notebook


def show(path):
    """Display the page at `path` in a notebook: a frame with the page, and a picture.

    The frame holds the page itself, so no server is needed, and a link that opens it in
    a new tab. Jupyter displays the frame in a trusted notebook, such as one that has
    just been run; elsewhere the picture of the initial state is displayed.

    The notebook then contains the page, about 0.8 MB: `tools.refresh.strip_explorer`
    removes it before a notebook is stored.

    Raises:
        OSError, ValueError: as `read`.
    """
    model, page = read(path), Path(path).read_text(encoding="utf-8")
    kl = np.array(model["kl"])
    inactive = np.flatnonzero(~(kl > model["threshold"]))
    note = "no dimension is inactive"
    if len(inactive):
        note = f"inactive dimensions: {', '.join(map(str, inactive))}"
    alt = (
        f"The explorer in its initial state: a decoded garment and {len(kl)} sliders, "
        f"one for each latent dimension, all at 0; {note}."
    )
    frame = iframe(f'srcdoc="{html.escape(page)}"', len(kl))
    outputs = {"text/plain": alt, "text/html": frame}
    if "google.colab" not in sys.modules:  # Colab would display both
        outputs["image/png"] = base64.b64encode(_picture(model)).decode()
    metadata = {"image/png": {"alt": alt}, "explorer": Path(path).name}
    display(outputs, raw=True, metadata=metadata)


def iframe(source, dimensions):
    """The HTML of a frame that is high enough for a page with so many dimensions.

    `source` is the frame's attribute, such as 'src="explorer.html"'.
    """
    style = f"width: 100%; height: {max(560, 36 * dimensions + 300)}px; border: 0"
    title = "Explorer of the latent space"
    return f'<iframe {source} title="{title}" style="{style}"></iframe>'


def _picture(model):
    """The explorer's initial state, the decoded origin and the sliders, as PNG bytes.

    As on the page, the dimension with the largest KL comes first.
    """
    kl = np.array(model["kl"])
    order, rows = np.argsort(-kl), range(len(kl))
    figure, (left, right) = plt.subplots(
        1,
        2,
        figsize=(7, max(2.6, 0.24 * len(kl) + 0.3)),
        width_ratios=[1, 1.6],
        layout="constrained",
    )
    image = decode(model, np.zeros((1, len(kl)))).reshape(28, 28)
    left.imshow(image, "gray", vmin=0, vmax=1, interpolation="none")
    left.set(xticks=[], yticks=[])
    right.hlines(rows, -3, 3, color="0.75", linewidth=3)
    right.plot(np.zeros(len(kl)), rows, "o", color="#0b5cad")
    active = kl > model["threshold"]
    notes = [f"{kl[i]:.2f} nats" if active[i] else "inactive" for i in order]
    names = [f"dimension {i}   {note}" for i, note in zip(order, notes)]
    right.set_yticks(rows, names)
    right.tick_params(left=False)
    right.spines[:].set_visible(False)
    right.set(xticks=[-3, 0, 3], ylim=(len(kl) - 0.5, -0.5))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=90, metadata={"Software": None})
    plt.close(figure)
    return file.getvalue()


# ---------------------------------------------------------------- animation


def animate(frames, alt):
    """Display an interpolation in a notebook as an animated PNG, with a filmstrip.

    It plays forward in three seconds, then backward, in a loop. Twelve of the frames
    stand beside it, for print and for readers that cannot display an animation.

    Args:
        frames: images (n, 784) in [0, 1], in order, such as `decoder(a + t * (b - a))`.
            With n = 31 the file has about 60 kB.
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
    last = len(images) - 1
    sheet = np.full((172, 168 + 12 + 6 * 88 - 4), 255, "uint8")
    strip = np.linspace(0, last, min(12, len(images))).round().astype(int)
    for place, i in enumerate(strip):
        top, left = 88 * (place // 6), 180 + 88 * (place % 6)
        sheet[top : top + 84, left : left + 84] = _enlarge(images[i], 3)
    order = [*range(len(images)), *range(last - 1, 0, -1)]
    pictures = []
    for i in order:
        sheet[2:170, :168] = _enlarge(images[i], 6)
        pictures.append(Image.fromarray(sheet.copy()))
    # In milliseconds; the first and the last frame stay half a second longer.
    times = [round(3000 / last + 500 * (i in (0, last))) for i in order]
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


def _enlarge(image, factor):
    """An image (28, 28) as (28 factor, 28 factor), each pixel a square."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
