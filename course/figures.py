"""How the course's figures look, and those that several chapters show."""

import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython

from course.data import CLASS_NAMES

WIDTH = 7.36  # inches: as wide as a page's text; at 100 dots per inch 736 pixels
# Five colours of petroff10 and five others: dots are small, and ten colours that may
# stand side by side in a plot's lines are too near to each other for dots.
CLASS_COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#92dadd", "#832db6",
    "#e9449d", "#8b9400", "#103cff", "#641807", "#1b5462",
)  # fmt: skip


def use_style():
    """Set the course's style: the colour-blind-safe palette petroff10, sharp images.

    In a notebook, figures are stored at twice the pixels that they are displayed at.
    """
    plt.style.use("petroff10")
    plt.rcParams.update({
        "figure.dpi": 100,
        "figure.figsize": (WIDTH, 3),
        "figure.constrained_layout.use": True,
        "savefig.dpi": 200,
        "savefig.bbox": "tight",
        "savefig.pad_inches": 0.03,
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.grid": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "image.cmap": "gray",
        "image.interpolation": "none",
    })  # fmt: skip
    if get_ipython():
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")


def image_grid(rows, column_labels=(), frames=None, signed=None, size=None):
    """A figure with one row of images for each of `rows`, values in [0, 1].

    Args:
        rows: {label: images (columns, 784)}, or pictures (columns, height, width).
        column_labels: a label for each column, above the first row.
        frames: {label: columns}, from 0: these images of a row get a red frame.
        signed: {label: limit}: this row is drawn from -limit, blue, to limit, red.
        size: the side of an image in inches; by default, the grid fills a page's width.

    Raises:
        ValueError: a row is neither images nor pictures.
    """
    frames, signed = frames or {}, signed or {}
    columns = max((len(row) for row in rows.values()), default=0)
    labels_width = 0.08 + 0.068 * max((len(str(label)) for label in rows), default=0)
    size = size or min(0.85, (WIDTH - labels_width) / max(columns, 1))
    shape = size * columns + labels_width, size * len(rows) + 0.3 * bool(column_labels)
    figure, axis = plt.subplots(figsize=shape)
    for i, (label, row) in enumerate(rows.items()):
        row = np.asarray(row)
        if row.ndim == 2 and row.shape[1] == 784:
            row = row.reshape(-1, 28, 28)
        limit = signed.get(label, 1)
        if row.ndim != 3 or not row.size or not np.abs(row).max() < 10 * limit:
            plt.close(figure)
            raise ValueError(
                f"row {label!r} must be images (columns, 784) in [0, 1], "
                f"not an array {row.shape}."
            )
        low, colours = (-limit, "RdBu_r") if label in signed else (0, "gray")
        for j, image in enumerate(row):
            place = (j + 0.03, j + 0.97, i + 0.97, i + 0.03)
            axis.imshow(image, colours, vmin=low, vmax=limit, extent=place)
        for j in frames.get(label, ()):
            frame = plt.Rectangle((j, i), 1, 1, fill=False, color="C2", linewidth=2.5)
            axis.add_patch(frame).set_clip_on(False)
    axis.set(xlim=(0, columns), ylim=(len(rows), 0), aspect="equal")
    axis.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axis.set_xticks(np.arange(len(column_labels)) + 0.5, column_labels)
    axis.tick_params(length=0, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)
    return figure


def scatter_classes(axis, codes, labels, names=True):
    """Plot codes (n, 2) as dots coloured by class; labels (n,) from 0 to 9.

    The dots are in random order, so that no class covers another. The name of each
    class stands at the median of its codes, moved where names would overlap: set the
    limits and the aspect of the axis before.
    """
    codes, labels = np.asarray(codes), np.asarray(labels)
    order = np.random.default_rng(0).permutation(len(codes))
    colours = [CLASS_COLOURS[label] for label in labels[order]]
    axis.scatter(*codes[order].T, s=5, color=colours, linewidths=0)
    if names:
        classes = np.unique(labels)
        centres = [np.median(codes[labels == c], axis=0) for c in classes]
        texts = [
            axis.text(
                *centre, CLASS_NAMES[c], ha="center", va="center", fontsize=9,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "w", "alpha": 0.85,
                      "edgecolor": CLASS_COLOURS[c], "linewidth": 1.5},
            )
            for c, centre in zip(classes, centres)
        ]  # fmt: skip
        _separate(axis, texts)


def _separate(axis, texts):
    """Move texts apart until none overlaps another, or for 200 steps, inside the axis.

    Two that overlap are moved by half of the overlap each, up or down, left or right,
    whichever is shorter.
    """
    axis.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts]
    centres = np.array([[box.x0 + box.x1, box.y0 + box.y1] for box in boxes]) / 2
    sizes = np.array([[box.width + 6, box.height + 6] for box in boxes])  # + its frame
    low, high = axis.bbox.min + sizes / 2, axis.bbox.max - sizes / 2
    for _ in range(200):
        centres = centres.clip(low, high)
        for i in range(len(texts)):
            for j in range(i):
                apart = centres[i] - centres[j]
                overlap = (sizes[i] + sizes[j]) / 2 - np.abs(apart)
                if overlap.min() > 0.01:
                    k = np.argmin(overlap)
                    step = np.copysign(overlap[k] / 2, apart[k])
                    centres[i, k] += step
                    centres[j, k] -= step
    for text, place in zip(texts, axis.transData.inverted().transform(centres)):
        text.set_position(place)


def dot_plot(axis, rows):
    """Plot dots in a row for each of `rows`, the first at the top; logarithmic axis.

    Args:
        axis: the axis; set its label afterwards.
        rows: {label: values (n,)}; the mean of the values is written beside them. Or
            {label: {series: values}}: each series has a colour and a marker, which a
            legend names, and stands a little lower than the one before.
    """
    for place, values in enumerate(rows.values()):
        series = values if isinstance(values, dict) else {None: values}
        for k, (name, part) in enumerate(series.items()):
            part = np.atleast_1d(part)
            height = np.full(len(part), place + 0.16 * (k - (len(series) - 1) / 2))
            label = name if place == 0 else None
            axis.plot(part, height, "osD^v"[k % 5], color=f"C{k}", markersize=5,
                      alpha=0.7, markeredgewidth=0, label=label)  # fmt: skip
            if name is None:
                mean = part.mean()
                text = f"{mean:.1f}" if mean >= 100 else f"{mean:#.2g}".rstrip(".")
                axis.annotate(text, (part.max(), place), (7, 0),
                              textcoords="offset points", va="center")  # fmt: skip
    axis.set_xscale("log")
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.grid(axis="y", alpha=0.3)
    axis.margins(x=0.18)
    low, high = axis.get_xlim()
    ticks = [m * 10.0**e for e in range(-3, 4) for m in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) > 7:  # over more than two decades: 0.1, 1, 10
        ticks = [tick for tick in ticks if f"{tick:e}".startswith("1.")]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    if axis.get_legend_handles_labels()[0]:
        axis.legend()
