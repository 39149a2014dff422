"""The diagrams of networks in chapters 02 and 03."""

import matplotlib.pyplot as plt
import numpy as np


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
