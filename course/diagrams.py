"""The diagrams in chapters 02 and 03."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse


def draw_network(widths, names, title, split=None):
    """Draw a network: one bar for each layer, the higher the more units it has.

    Args:
        widths: the number of units of each layer, a list of integers.
        names: the label of each layer, a list of as many strings; may be empty.
        title: the title of the figure.
        split: the index of a layer that stands for two parallel heads, such as mean
            and log-variance, drawn one above the other. Its name is "upper|lower".

    Returns:
        The figure.
    """
    figure, axis = plt.subplots(figsize=(9, 2.9))
    heights = np.sqrt(widths) / np.sqrt(max(widths))
    edges = []  # (top, bottom) of the bars of each layer
    for i, (width, name, height) in enumerate(zip(widths, names, heights)):
        colour = "C1" if width == min(widths) else "C0"
        centres = (0.2, -0.2) if i == split else (0.0,)
        for label, centre in zip(name.split("|"), centres):
            axis.bar(i, height, 0.34, bottom=centre - height / 2, color=colour)
            y = centre + height / 2 + 0.03
            axis.text(i, y, label, ha="center", va="bottom", fontsize=9)
        axis.text(i, -0.62, width, ha="center", va="top", fontsize=9)
        edges.append([(centre + height / 2, centre - height / 2) for centre in centres])
    for i in range(len(widths) - 1):
        x = [i + 0.17, i + 0.83, i + 0.83, i + 0.17]
        for top_left, bottom_left in edges[i]:
            for top, bottom in edges[i + 1]:
                y = [top_left, top, bottom, bottom_left]
                axis.fill(x, y, color="0.6", alpha=0.25, linewidth=0)
    axis.text(-0.75, -0.62, "units", ha="right", va="top", fontsize=9)
    axis.set(xlim=(-1.2, len(widths) - 0.4), ylim=(-0.75, 0.68), title=title)
    axis.axis("off")
    return figure


def draw_idea():
    """Draw the idea of a VAE in three panels; the figure.

    Points of an autoencoder, regions in their place, and regions packed around the
    origin by the KL term. The positions are invented, for illustration.
    """
    angle = np.radians(np.arange(12) * 30 + 15)
    ring = np.where(np.arange(12) % 2, 1.5, 0.72)  # two rings of six
    packed = ring[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    kinds = np.repeat([0, 1, 2], 4)
    away = np.array([[2.3, 1.6], [-2.9, 1.1], [0.6, -2.9]])[kinds]
    scattered = away + 1.1 * (packed - 0.4 * away / 2)
    panels = {
        "autoencoder: points": (scattered, 0.0),
        "+ noise: regions": (scattered, 0.4),
        "+ KL: regions near the origin": (packed, 0.47),
    }
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.5), sharex=True, sharey=True)
    for axis, (title, (places, radius)) in zip(axes, panels.items()):
        for (x, y), kind in zip(places, kinds):
            size = 2 * radius * np.array([1.15, 0.9])
            ellipse = Ellipse((x, y), *size, color=f"C{kind}", alpha=0.45, linewidth=0)
            axis.add_patch(ellipse)
            axis.plot(x, y, "o", color=f"C{kind}", markersize=4)
        circle = plt.Circle((0, 0), 2, fill=False, color="0.4", linestyle="--")
        axis.add_patch(circle)
        axis.plot(0.55, -0.35, "x", color="black", markersize=9, markeredgewidth=2)
        axis.set(xticks=[], yticks=[], xlim=(-5, 5), ylim=(-4.8, 4.6))
        axis.set_title(title, fontsize=11)
        axis.set_aspect("equal")
    axes[0].annotate("a random code", (0.7, -0.5), (1.3, -2.1), fontsize=9)
    axes[2].annotate("prior N(0, I)", (1.5, 1.5), (1.7, 2.2), fontsize=9)
    return figure
