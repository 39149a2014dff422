"""Animated PNGs: the film of chapter 03, the interpolation of chapter 04."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from course import film


@pytest.fixture
def shown(monkeypatch):
    """A function: the frames (pictures, height, width, 3) that a call displays."""
    displayed = []
    monkeypatch.setattr(film, "display", lambda data, **_: displayed.append(data))

    def frames(function, *arguments):
        function(*arguments)
        picture = Image.open(io.BytesIO(base64.b64decode(displayed.pop()["image/png"])))
        frames = []
        for i in range(picture.n_frames):
            picture.seek(i)
            frames.append(np.asarray(picture.convert("RGB")))
        return np.stack(frames)

    return frames


def test_film_moves_beside_still_pictures(shown):
    rng = np.random.default_rng(0)
    end = rng.normal(size=(100, 10))
    codes = [end * epoch / 12 for epoch in range(13)]
    frames = shown(film.show_film, codes, rng.integers(10, size=100), [4, 0])
    assert len(frames) == 12  # epochs 0 to 10 and the last
    side = film.SIDE
    assert (frames[:, side:] == frames[0, side:]).all()
    assert (frames[:, :, side:] == frames[0, :, side:]).all()
    assert (frames[0, :side, :side] != frames[-1, :side, :side]).any()


def test_interpolation_plays_there_and_back(shown):
    frames = np.linspace(0, 1, 5)[:, None] * np.ones(784)
    corner = shown(film.animate, frames)[:, 0, 0, 0]
    assert corner.tolist() == [0, 64, 128, 191, 255, 191, 128, 64]
