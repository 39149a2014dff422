"""How the course's figures look, and those that several chapters show."""

import matplotlib.pyplot as plt
import numpy as np

from course.data import CLASS_NAMES


def use_style():
    """Set the course's style: the colour-blind-safe palette petroff10, sharp images."""
    plt.style.use("petroff10")
    plt.rcParams.update({
        "figure.dpi": 100,
        "figure.constrained_layout.use": True,
        "axes.grid": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "image.cmap": "gray",
        "image.interpolation": "none",
    })  # fmt: skip


def show(figure, alt):
    """Display a figure once, with `alt` as its alternative text, and close it."""
    from IPython.display import display

    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


def image_grid(rows, row_labels=None, column_labels=None, size=0.85):
    """A figure with one row of pictures for each of `rows`, values in [0, 1].

    A row is an array of images (columns, 784) or of pictures (columns, height, width).

    Raises:
        ValueError: a row is neither.
    """
    rows = [np.asarray(row) for row in rows]
    rows = [
        row.reshape(-1, 28, 28) if row.ndim == 2 and row.shape[1] == 784 else row
        for row in rows
    ]
    if not rows or any(
        row.ndim != 3 or not row.size or not np.abs(row).max() < 10 for row in rows
    ):
        shapes = [row.shape for row in rows][:3]
        raise ValueError(
            f"rows must be images (columns, 784) in [0, 1], not arrays {shapes}."
        )
    columns = max(map(len, rows))
    figure, axes = plt.subplots(
        len(rows),
        columns,
        squeeze=False,
        figsize=(size * columns + 1.2 * bool(row_labels), size * len(rows) + 0.3),
    )
    for i, j in np.ndindex(*axes.shape):
        axes[i, j].set(xticks=[], yticks=[])
        axes[i, j].spines[:].set(visible=j < len(rows[i]), color="0.8", linewidth=0.5)
        if j < len(rows[i]):
            axes[i, j].imshow(rows[i][j], vmin=0, vmax=1)
    for axis, label in zip(axes[:, 0], row_labels or ()):
        axis.set_ylabel(label, rotation=0, ha="right", va="center")
    for axis, label in zip(axes[0], column_labels or ()):
        axis.set_title(label, fontsize=9)
    return figure


def scatter_classes(axis, points, labels):
    """Draw points (n, 2) as dots coloured by class; labels (n,) from 0 to 9.

    They are drawn in random order, so that no class covers another.
    """
    order = np.random.default_rng(0).permutation(len(points))
    colours = [f"C{label}" for label in labels[order]]
    axis.scatter(*points[order].T, s=5, color=colours, linewidths=0)


def class_legend(figure):
    """Add the legend of `scatter_classes` to the right of a figure."""
    axis = figure.axes[0]
    handles = [axis.scatter([], [], color=f"C{c}", s=30) for c in range(10)]
    figure.legend(handles, CLASS_NAMES, loc="outside right center", fontsize=9)
