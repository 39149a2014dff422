"""The film of the latent space in chapter 03."""

import base64
import io

import numpy as np
from PIL import Image

from course import film


def shown(monkeypatch, *arguments):
    """What `show_film` displays: its data and its metadata."""
    import IPython.display

    displayed = []
    monkeypatch.setattr(
        IPython.display,
        "display",
        lambda data, raw, metadata: displayed.append((data, metadata)),
    )
    film.show_film(*arguments)
    [(data, metadata)] = displayed
    return data, metadata


def test_film_has_a_frame_for_each_epoch_and_is_small(monkeypatch):
    rng = np.random.default_rng(0)
    end = rng.normal(size=(1000, 10))
    codes = [
        end * epoch / 50 + 0.05 * rng.normal(size=end.shape) for epoch in range(51)
    ]
    labels = rng.integers(10, size=1000)
    data, metadata = shown(monkeypatch, codes, labels, [4, 0], "What it shows.")
    assert metadata["image/png"]["alt"] == data["text/plain"] == "What it shows."
    content = base64.b64decode(data["image/png"])
    assert len(content) < 300_000
    picture = Image.open(io.BytesIO(content))
    assert picture.n_frames == 51 and picture.is_animated
    frames = []
    for i in range(51):
        picture.seek(i)
        frames.append(np.asarray(picture.convert("RGB")))
    still = frames[0][:, film.SIDE :]
    assert all(np.array_equal(frame[:, film.SIDE :], still) for frame in frames)
    assert not np.array_equal(frames[0][:, : film.SIDE], frames[-1][:, : film.SIDE])


def test_a_code_is_drawn_at_its_place_in_the_colour_of_its_class():
    picture = film.draw_codes(np.array([[2.0, -1.0]]), np.array([3]), "epoch 1")
    rows, columns = np.nonzero(np.asarray(picture) == 3)
    scale = film.SIDE / (2 * film.LIMIT)
    assert abs(columns.mean() - (film.SIDE / 2 + 2 * scale)) <= 2
    assert abs(rows.mean() - (film.SIDE / 2 + scale)) <= 2


def test_codes_outside_the_picture_are_drawn_at_its_edge():
    picture = film.draw_codes(np.array([[50.0, 50.0], [-50.0, -50.0]]), [1, 2], "")
    assert (np.asarray(picture) == 1).any() and (np.asarray(picture) == 2).any()
