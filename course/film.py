"""Animated PNGs: the latent space while a VAE trains, and interpolations."""

from course import backend  # noqa: F401  isort: skip  (before Keras)

import base64
import io

import keras
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from PIL import Image

from course.figures import scatter_classes

SIDE, GAP = 600, 12  # pixels of a picture of the film, and between two; shown half size
LIMIT = 4.0  # the pictures show codes from -LIMIT to LIMIT


class LatentFilm(keras.callbacks.Callback):
    """Keeps z_mean of some images before a VAE's training and after each epoch.

    `codes` is a list of arrays (n, latent_dim).
    """

    def __init__(self, x):
        super().__init__()
        self.x, self.codes = x, []

    def on_train_begin(self, logs=None):
        self.codes = []
        self.on_epoch_end(0)

    def on_epoch_end(self, epoch, logs=None):
        self.codes.append(np.asarray(self.model.encoder(self.x)[0]))


def show_film(codes, labels, pair, titles=None):
    """Display codes over training as an animated PNG, with three still pictures.

    The film is at the upper left, beside epochs 1 and 5 and the last, with class names.
    With `titles`, each picture has its own in place of its epoch, and all are shown.

    Args:
        codes: one array (n, latent_dim) for each picture; the first is epoch 0.
        labels: the class of each code, (n,), from 0 to 9, for its colour.
        pair: the two latent dimensions to show, the horizontal one first.
    """
    last = len(codes) - 1
    # Most happens in the first epochs; later ones are shown in steps of four.
    shown = [*range(min(10, last)), *range(10, last, 4), last]
    early = [min(1, last), min(5, last)]
    if titles:
        shown, early = range(last + 1), [last // 3, 2 * last // 3]
    titles = titles or [f"epoch {epoch}" for epoch in range(last + 1)]

    def plot(indices, names=False):
        parts = [codes[i][:, pair] for i in indices]
        return _plot_codes(parts, labels, [titles[i] for i in indices], names)

    pictures, stills = plot(shown), plot(early) + plot([last], names=True)
    sheet = np.full((2 * SIDE + GAP, 2 * SIDE + GAP, 3), 255, "uint8")
    low, high = slice(0, SIDE), slice(SIDE + GAP, None)
    for place, still in zip([(low, high), (high, low), (high, high)], stills):
        sheet[place] = still
    frames = []
    for picture in pictures:
        sheet[low, low] = picture
        frames.append(Image.fromarray(sheet))
    palette = frames[-1].quantize(64)
    frames = [frame.quantize(palette=palette, dither=0) for frame in frames]
    _display(frames, [*[200] * (len(frames) - 1), 2500], f"A film, to {titles[-1]}")


def _plot_codes(codes, labels, titles, names=False):
    """Arrays of codes (n, 2) as pictures (SIDE, SIDE, 3) with the prior's circles.

    The circles have the radii 1, 2 and 3: one, two and three standard deviations.
    """
    figure = plt.figure(figsize=(SIDE / 200, SIDE / 200), dpi=200, layout="none")
    pictures = []
    for part, title in zip(codes, titles):
        figure.clear()
        axis = figure.add_axes((0.01, 0.01, 0.98, 0.98), xticks=[], yticks=[])
        axis.spines[:].set(visible=True, color="0.75")
        axis.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT))
        for radius in (1, 2, 3):
            axis.add_patch(plt.Circle((0, 0), radius, fill=False, color="0.75"))
        scatter_classes(axis, part.clip(-LIMIT, LIMIT), labels, names)
        axis.text(-0.95 * LIMIT, 0.88 * LIMIT, title, fontsize=11)
        figure.canvas.draw()
        pictures.append(np.array(figure.canvas.buffer_rgba())[..., :3])
    plt.close(figure)
    return pictures


def animate(frames):
    """Display an interpolation as an animated PNG, with a filmstrip.

    It plays forward in three seconds, then backward, in a loop. Eight of the frames
    stand beside it, for print and for readers that cannot display an animation.

    Args:
        frames: two or more images (n, 784) in [0, 1], in order, such as
            `decoder(a + t * (b - a))`.
    """
    images = np.rint(np.clip(frames, 0, 1) * 255).astype("uint8").reshape(-1, 28, 28)
    last = len(images) - 1
    small, large = 28 * 8, 2 * 28 * 8 + GAP  # a still picture, the film
    sheet = np.full((large, large + 4 * (small + GAP)), 255, "uint8")
    for place, i in enumerate(np.linspace(0, last, 8).round().astype(int)):
        top = (small + GAP) * (place // 4)
        left = large + GAP + (small + GAP) * (place % 4)
        sheet[top : top + small, left : left + small] = _enlarge(images[i], small)
    order = [*range(len(images)), *range(last - 1, 0, -1)]
    pictures = []
    for i in order:
        sheet[:, :large] = _enlarge(images[i], large)
        pictures.append(Image.fromarray(sheet.copy()))
    # In milliseconds; the first and the last frame stay half a second longer.
    times = [round(3000 / last + 500 * (i in (0, last))) for i in order]
    _display(pictures, times, f"An interpolation in {len(images)} images")


def _enlarge(image, side):
    """An image (28, 28) as (side, side), without interpolation."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.NEAREST))


def _display(pictures, times, text):
    """Display pictures, each for so many milliseconds, as an animated PNG in a loop."""
    file = io.BytesIO()
    pictures[0].save(
        file, "PNG", save_all=True, append_images=pictures[1:], duration=times, loop=0,
        optimize=True,
    )  # fmt: skip
    width, height = (side // 2 for side in pictures[0].size)
    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": text}
    display(data, raw=True, metadata={"image/png": {"width": width, "height": height}})
