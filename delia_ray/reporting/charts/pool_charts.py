"""Bar charts, histograms and scatter plots of a pool of texts, in placeholder colors (see ``svg``)."""
# pyright: reportUnknownMemberType=false
# matplotlib leaves the keyword arguments of nearly every method untyped

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from delia_ray.reporting.charts.svg import INK, apply_style, create_figure
from delia_ray.reporting.wording.formatting import format_percent

_WIDTH = 320.0
_ROW = 24.0
_LETTERS = 22


def draw_shares(shares: Mapping[str, float], color: str) -> Figure:
    """Draw a bar for each label, relative to the largest share, with the share beside it."""
    with apply_style():
        figure = create_figure(_WIDTH, _ROW * len(shares) + 8)
        axes = figure.add_axes((0.5, 0, 0.34, 1))
        largest = max(shares.values())
        axes.set(xlim=(0, largest), ylim=(len(shares) - 0.4, -0.6))
        for position, (label, share) in enumerate(shares.items()):
            name = label if len(label) <= _LETTERS else f"{label[: _LETTERS - 1]}…"
            axes.annotate(name, (0.003, position), xycoords=("figure fraction", "data"), va="center", ha="left")
            axes.annotate(
                format_percent(share), (0.997, position), xycoords=("figure fraction", "data"), va="center", ha="right", fontweight="bold"
            )
            axes.barh(position, largest, height=0.5, color=INK, alpha=0.07)
            axes.barh(position, share, height=0.5, color=color)
        axes.set_axis_off()
        return figure


def draw_histogram(edges: Sequence[float], counts: Sequence[int], unit: str, color: str) -> Figure:
    """Draw a histogram over an axis labeled ``unit``; the height of a bar is its share of texts."""
    shares = np.array(counts) / max(1, sum(counts))
    with apply_style():
        figure = create_figure(_WIDTH, 150)
        axes = figure.add_axes((0.13, 0.27, 0.83, 0.68))
        axes.bar(edges[:-1], shares, width=np.diff(edges) * 0.94, align="edge", color=color)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(unit)
        axes.locator_params(nbins=5)
        top = max(float(shares.max()), 0.01)
        axes.set_yticks([0, top], ["", format_percent(top)])
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.grid(axis="y", color=INK, alpha=0.1)
        return figure


def draw_scatter(points_N2: NDArray[np.float64], colors: Sequence[str]) -> Figure:
    """Draw a dot for each text. The axes have no unit, so they have no labels; both have the same scale."""
    with apply_style():
        figure = create_figure(_WIDTH, 270)
        axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
        order = np.argsort([color != max(set(colors), key=list(colors).count) for color in colors], kind="stable")
        x_N, y_N = points_N2[order].T
        axes.scatter(x_N, y_N, s=20, c=[colors[i] for i in order], alpha=0.8, linewidths=0)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xticks([])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set(visible=True, alpha=0.25)
        return figure
