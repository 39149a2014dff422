"""The figures that several chapters show."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from course import diagrams, figures


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        figures.use_style()
        yield
    plt.close("all")


def test_images_stand_in_labelled_rows_and_some_are_framed():
    rows = {"first": np.zeros((3, 784)), "code": np.zeros((2, 5, 10)) - 2}
    figure = figures.image_grid(rows, "abc", frames={"first": [1]}, signed={"code": 3})
    [axis] = figure.axes
    assert [text.get_text() for text in axis.get_yticklabels()] == list(rows)
    assert [text.get_text() for text in axis.get_xticklabels()] == list("abc")
    assert [image.get_clim() for image in axis.images] == [(0, 1)] * 3 + [(-3, 3)] * 2
    [frame] = axis.patches
    assert frame.get_xy() == (1, 0)


@pytest.mark.parametrize(
    "row", [np.zeros(784), np.zeros((2, 100)), np.full((1, 784), 255)]
)
def test_what_is_no_image_is_refused(row):
    with pytest.raises(ValueError, match="row 'a' must be images"):
        figures.image_grid({"a": row})


@pytest.mark.parametrize("spread", [0, 0.1, 10])
def test_names_of_classes_do_not_overlap(spread):
    rng = np.random.default_rng(0)
    figure, axes = plt.subplots(1, 2)
    labels = np.arange(10).repeat(5)
    figures.scatter_classes(axes[0], spread * rng.normal(size=(50, 2)), labels)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes[0].texts]
    assert len(boxes) == 10
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_text_in_diagrams_is_readable():
    drawn = [diagrams.draw_vae(), diagrams.draw_idea(), diagrams.draw_kl([(0, 1)])]
    for figure in [*drawn, diagrams.draw_reparameterisation()]:
        assert figure.get_figwidth() == figures.WIDTH
        texts = figure.findobj(plt.Text)
        assert min(text.get_fontsize() for text in texts if text.get_text()) >= 9
