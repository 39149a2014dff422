"""A film of the latent space while a VAE trains, for chapter 03."""

from course import backend  # noqa: F401  isort: skip  (before Keras)

import base64
import io

import keras
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE, STILL, GAP = 300, 148, 6  # pixels: the film, a still picture, the space between
LIMIT = 4.0  # the picture shows codes from -LIMIT to LIMIT


class LatentFilm(keras.callbacks.Callback):
    """Keeps z_mean of some images before a VAE's training and after each epoch.

    `codes` is a list of arrays (n, latent_dim). It is part of the checkpoint of a
    training that is interrupted: the resumed training ends with the same film.
    """

    def __init__(self, x):
        super().__init__()
        self.x, self.codes = x, []

    def on_train_begin(self, logs=None):
        self.codes = [self._encode()]

    def on_epoch_end(self, epoch, logs=None):
        self.codes.append(self._encode())

    def get_state(self):
        return {"codes": np.stack(self.codes)}

    def set_state(self, state):
        self.codes = list(state["codes"])

    def _encode(self):
        return np.asarray(self.model.encoder(self.x)[0])


def show_film(codes, labels, dimensions, alt):
    """Display codes over training as an animated PNG, with six still pictures.

    Args:
        codes: one array (n, latent_dim) for each picture; the first is epoch 0.
        labels: the class of each code, (n,), from 0 to 9, for its colour.
        dimensions: the two latent dimensions to show, the horizontal one first.
        alt: the alternative text.
    """
    pictures = [
        draw_codes(part[:, dimensions], labels, f"epoch {epoch}")
        for epoch, part in enumerate(codes)
    ]
    last = len(pictures) - 1
    sheet = Image.new("P", (SIDE + 3 * (STILL + GAP), SIDE), 10)
    sheet.putpalette(pictures[0].getpalette())
    # The first epochs change most: the still pictures stand closer together there.
    for place, share in enumerate([0, 0.02, 0.06, 0.2, 0.5, 1]):
        epoch = round(share * last)
        still = draw_codes(codes[epoch][:, dimensions], labels, f"epoch {epoch}", STILL)
        top, left = (STILL + GAP - 2) * (place // 3), (STILL + GAP) * (place % 3)
        sheet.paste(still, (SIDE + GAP + left, top))
    frames = []
    for picture in pictures:
        sheet.paste(picture, (0, 0))
        frames.append(sheet.copy())
    file = io.BytesIO()
    frames[0].save(
        file, "PNG", save_all=True, append_images=frames[1:], loop=0, optimize=True,
        duration=[*[120] * last, 2500],
    )  # fmt: skip
    from IPython.display import display

    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": alt}
    display(data, raw=True, metadata={"image/png": {"alt": alt}})


def draw_codes(codes, labels, title, side=SIDE):
    """Codes (n, 2) as coloured dots in a square picture, with the prior's circles.

    The circles have the radii 1, 2 and 3: one, two and three standard deviations.
    """
    colours = [plt.matplotlib.colors.to_rgb(f"C{c}") for c in range(10)]
    palette = np.vstack([colours, [[1, 1, 1], [0.75, 0.75, 0.75], [0, 0, 0]]])
    scale = side / (2 * LIMIT)
    rows, columns = np.indices((side, side)) + 0.5 - side / 2
    radius = np.hypot(rows, columns) / scale
    picture = np.full((side, side), 10, "uint8")  # white
    for sigma in (1, 2, 3):
        picture[np.abs(radius - sigma) < 0.6 / scale] = 11  # grey
    dot = side // 100  # its width in pixels
    x, y = (np.clip(codes, -LIMIT, LIMIT).T * scale + side / 2).astype(int)
    for right, bottom, label in zip(x.clip(dot), (side - y).clip(dot), labels):
        picture[bottom - dot : bottom, right - dot : right] = label
    image = Image.fromarray(picture, "P")
    image.putpalette((255 * palette).round().astype("uint8").ravel().tolist())
    font = ImageFont.load_default(11 if side < 200 else 14)
    ImageDraw.Draw(image).text((4, 2), title, fill=12, font=font)
    return image
