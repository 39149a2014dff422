"""A page on which a small VAE learns in the reader's browser.

`write` makes one self-contained HTML page: images, labels, and plain JavaScript that
trains a VAE on them (learn.js, in a worker) and shows how it learns (train.js).
"""

import base64
import json

import numpy as np
from scipy.special import entr

from course.data import CLASS_NAMES, one_of_each
from course.map import write_page

TRAINED, SHOWN = 3000, 500
PICKED = (0, 1, 3, 8, 9)  # classes: of each, a garment is shown and reconstructed


def write(path, x, labels):
    """Write the page, about a megabyte. The same data give the same page.

    Args:
        path: the file to write.
        x: at least 3,500 images (n, 784) in [0, 1]. The page trains on 3,000, reduced
            to 14 x 14 pixels, and shows the first 500, on which it does not train.
        labels: the classes of `x`, (n,), integers from 0 to 9.

    Returns:
        The path of the page.

    Raises:
        ValueError: there are fewer images.
        OSError: the file cannot be written.
    """
    if len(x) < TRAINED + SHOWN:
        raise ValueError(f"x must be at least {TRAINED + SHOWN} images, not {len(x)}.")
    small, labels = reduced(x[: TRAINED + SHOWN]), np.asarray(labels[:SHOWN])
    shown = small[:SHOWN] / 255
    entropy = (entr(shown) + entr(1 - shown)).sum(axis=1).mean()  # nats
    data = {
        "classes": CLASS_NAMES,
        "labels": "".join(map(str, labels)),
        "picked": one_of_each(labels)[list(PICKED)].tolist(),
        "floor": round(float(entropy), 2),
        "images": base64.b64encode(small.tobytes()).decode(),
    }
    count = f"{TRAINED:,}"
    return write_page(path, "train.html", data=json.dumps(data), count=count)


def reduced(x):
    """Images (n, 784) in [0, 1] as bytes (n, 196): means of 2 x 2 pixels."""
    means = x.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4), dtype="float64")
    return np.rint(255 * means).astype("uint8").reshape(-1, 196)
