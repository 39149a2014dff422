"""The diagrams in chapters 02 and 03."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse

from course.figures import WIDTH


def draw_network(widths, names, split=None, noise=None):
    """Draw a network: one bar for each layer, the higher the more units it has.

    Args:
        widths: the number of units of each layer, a list of integers.
        names: the label of each layer, a list of as many strings; may be empty.
        split: the index of a layer that stands for two parallel heads, such as mean
            and log-variance, drawn one above the other. Its name is "upper|lower".
        noise: the index of a layer that noise from N(0, I) enters.

    Returns:
        The figure.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 2.9))
    heights = np.sqrt(widths) / np.sqrt(max(widths))
    edges = []  # (top, bottom) of the bars of each layer
    for i, (width, name, height) in enumerate(zip(widths, names, heights)):
        colour = "C1" if width == min(widths) else "C0"
        centres = (0.22, -0.22) if i == split else (0.0,)
        for label, centre in zip(name.split("|"), centres):
            axis.bar(i, height, 0.34, bottom=centre - height / 2, color=colour)
            y = centre + height / 2 + 0.03
            axis.text(i, y, label, ha="center", va="bottom")
        units = f"{width} + {width}" if i == split else width
        axis.text(i, -0.62, units, ha="center", va="top")
        edges.append([(centre + height / 2, centre - height / 2) for centre in centres])
    for i in range(len(widths) - 1):
        x = [i + 0.17, i + 0.83, i + 0.83, i + 0.17]
        for top_left, bottom_left in edges[i]:
            for top, bottom in edges[i + 1]:
                y = [top_left, top, bottom, bottom_left]
                axis.fill(x, y, color="0.6", alpha=0.25, linewidth=0)
    if noise is not None:
        [(_, bottom)] = edges[noise]
        _arrow(axis, (noise, -0.38), (noise, bottom), color="C2")
        text = "noise ε\nfrom N(0, I)"
        axis.text(noise, -0.39, text, ha="center", va="top", color="C2", linespacing=1)
    axis.text(-0.5, -0.62, "units", ha="right", va="top")
    axis.set(xlim=(-1, len(widths) - 0.5), ylim=(-0.75, 0.68))
    axis.axis("off")
    return figure


def draw_vae():
    """Draw chapter 03's VAE: encoder, mean and log-variance, noise, z, decoder."""
    widths = [784, 512, 256, 128, 10, 10, 128, 256, 512, 784]
    names = ["image", "", "", "", "mean|log-variance", "code z", "", "", ""]
    names.append("pixel\nprobabilities")
    return draw_network(widths, names, split=4, noise=5)


def draw_reparameterisation():
    """Draw how z is computed twice: sampled directly, and as mean + sigma * noise.

    Arrows to the right are computations; the red ones to the left are gradients.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.5))
    nodes = {"μ": (0, 1), "σ": (0, 0), "z": (2, 0.5), "loss": (3.1, 0.5)}
    edges = [("μ", "z"), ("σ", "z"), ("z", "loss")]
    title = "z sampled from N(μ, σ²): no gradient passes"
    _draw_graph(left, title, nodes, edges, gradients=edges[2:], random="z")
    noise = "ε from N(0, 1)"
    nodes[noise] = (2, -0.7)
    title = "z = μ + σ ε: gradients reach μ and σ"
    _draw_graph(right, title, nodes, [*edges, (noise, "z")], edges, random=noise)
    return figure


def _draw_graph(axis, title, nodes, edges, gradients, random):
    """Draw a graph; `random` names the node that is a random number."""
    for name, place in nodes.items():
        colour = "#ffe3ad" if name == random else "w"
        box = {"boxstyle": "round,pad=0.4", "facecolor": colour, "edgecolor": "0.3"}
        axis.text(*place, name, ha="center", va="center", fontsize=11, bbox=box)
    for start, end in edges:
        a, b = np.array(nodes[start]), np.array(nodes[end])
        step = (b - a) / np.linalg.norm(b - a)
        a, b = a + 0.3 * step, b - 0.3 * step
        side = 0.09 * np.array([-step[1], step[0]])
        _arrow(axis, a + side, b + side, color="0.3")
        if (start, end) in gradients:
            _arrow(axis, b - side, a - side, color="C2", linestyle="--")
    axis.set(xlim=(-0.4, 3.5), ylim=(-1, 1.3))
    axis.set_title(title)
    axis.axis("off")


def _arrow(axis, start, end, **style):
    arrow = {"arrowstyle": "->", "shrinkA": 0, "shrinkB": 1, **style}
    axis.annotate("", end, start, arrowprops=arrow)


def draw_kl(cases):
    """Draw normal distributions over the prior N(0, 1), with the KL of each.

    Args:
        cases: pairs (mean, sigma), a panel each.

    KL = (mean^2 + sigma^2 - 1 - log(sigma^2)) / 2: Kingma and Welling (2014),
    appendix B.
    """
    figure, axes = plt.subplots(
        1, len(cases), figsize=(WIDTH, 2), sharex=True, sharey=True, squeeze=False
    )
    z = np.linspace(-4, 4, 401)
    for axis, (mean, sigma) in zip(axes[0], cases):
        for m, s, colour, label in [(0, 1, "0.6", "prior"), (mean, sigma, "C0", "q")]:
            density = np.exp(-(((z - m) / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))
            axis.fill_between(z, density, color=colour, alpha=0.4, linewidth=0)
            axis.plot(z, density, color=colour, label=label)
        kl = (mean**2 + sigma**2 - 1 - np.log(sigma**2)) / 2
        axis.set_title(f"mean {mean:g}, sd {sigma:g}\nKL = {kl:.2f} nats")
        axis.set(xticks=[-3, 0, 3], yticks=[], xlabel="z")
        axis.spines["left"].set_visible(False)
    axis.set_ylim(0)
    axes[0, 0].legend(loc="upper left", frameon=False)
    return figure


def draw_idea():
    """Draw the idea of a VAE in three panels; the figure.

    Points of an autoencoder, regions in their place, and regions packed where the
    prior, the grey shading, is dense. The positions are invented, for illustration.
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
    rows, columns = np.mgrid[-5:5:201j, -5:5:201j]
    prior = np.exp(-(rows**2 + columns**2) / 2)
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.7), sharex=True, sharey=True)
    for axis, (title, (places, radius)) in zip(axes, panels.items()):
        axis.imshow(
            prior, "Greys", vmin=0, vmax=2, extent=(-5, 5, -5, 5),
            interpolation="bilinear",
        )  # fmt: skip
        for (x, y), kind in zip(places, kinds):
            size = 2 * radius * np.array([1.15, 0.9])
            ellipse = Ellipse((x, y), *size, color=f"C{kind}", alpha=0.45, linewidth=0)
            axis.add_patch(ellipse)
            axis.plot(x, y, "o", color=f"C{kind}", markersize=3.5)
        axis.plot(0.55, -0.35, "x", color="black", markersize=8, markeredgewidth=2)
        axis.set(xticks=[], yticks=[], xlim=(-4.9, 4.9), ylim=(-4.9, 4.9))
        axis.set_title(title)
        axis.spines[:].set(visible=True, color="0.7")
    arrow = {"arrowstyle": "-", "color": "0.3", "shrinkB": 4}
    label = "a code sampled\nfrom the prior"
    axes[0].annotate(label, (0.55, -0.35), (-4.6, -4.5), arrowprops=arrow)
    label = "the prior N(0, I):\ndarker, more probable"
    axes[0].annotate(label, (-0.6, 0.6), (-4.6, 3.3), arrowprops=arrow)
    return figure
