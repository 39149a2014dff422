"""The diagrams of networks in chapters 02 and 03."""

import matplotlib.pyplot as plt
import numpy as np


def draw_network(widths, names, title, split=None):
    """Diagram of a network: a bar for each layer, taller for more units.

    `widths` and `names` are lists, one entry a layer. `split` is the index of a layer
    that stands for two parallel heads (mean and log-variance), drawn one above the other.
    """
    figure, axis = plt.subplots(figsize=(9, 2.9))
    heights = np.sqrt(widths) / np.sqrt(max(widths))
    tops = []
    for i, (width, name, height) in enumerate(zip(widths, names, heights)):
        colour = "C1" if width == min(widths) else "C0"
        centres = (0.2, -0.2) if i == split else (0.0,)
        for label, centre in zip(name.split("|"), centres):
            axis.bar(i, height, 0.34, bottom=centre - height / 2, color=colour)
            axis.text(
                i,
                centre + height / 2 + 0.03,
                label,
                ha="center",
                va="bottom",
                fontsize=9,
            )
        axis.text(i, -0.62, width, ha="center", va="top", fontsize=9)
        tops.append([(centre + height / 2, centre - height / 2) for centre in centres])
    for i in range(len(widths) - 1):
        for top_left, bottom_left in tops[i]:
            for top, bottom in tops[i + 1]:
                axis.fill([i + 0.17, i + 0.83, i + 0.83, i + 0.17], [top_left, top, bottom, bottom_left],
                          color="0.6", alpha=0.25, linewidth=0)  # fmt: skip
    axis.text(-0.75, -0.62, "units", ha="right", va="top", fontsize=9)
    axis.set(xlim=(-1.2, len(widths) - 0.4), ylim=(-0.75, 0.68), title=title)
    axis.axis("off")
    return figure
