"""Bars, histograms and maps of a pool of texts, in stand-in colours (see ``svg``)."""
# pyright: reportUnknownMemberType=false
# matplotlib leaves the keyword arguments of nearly every method untyped

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from delia_ray.reporting.numerals import percent
from delia_ray.reporting.svg import INK, canvas, styled

_WIDTH = 320.0
_ROW = 24.0
_LETTERS = 22


def draw_shares(shares: Mapping[str, float], colour: str) -> Figure:
    """A bar for each label, as long as its share of the longest, with the share beside it."""
    with styled():
        figure = canvas(_WIDTH, _ROW * len(shares) + 8)
        axes = figure.add_axes((0.5, 0, 0.34, 1))
        longest = max(shares.values())
        axes.set(xlim=(0, longest), ylim=(len(shares) - 0.4, -0.6))
        for place, (label, share) in enumerate(shares.items()):
            name = label if len(label) <= _LETTERS else f"{label[: _LETTERS - 1]}…"
            axes.annotate(name, (0.003, place), xycoords=("figure fraction", "data"), va="center", ha="left")
            axes.annotate(percent(share), (0.997, place), xycoords=("figure fraction", "data"), va="center", ha="right", fontweight="bold")
            axes.barh(place, longest, height=0.5, color=INK, alpha=0.07)
            axes.barh(place, share, height=0.5, color=colour)
        axes.set_axis_off()
        return figure


def draw_histogram(edges: Sequence[float], counts: Sequence[int], unit: str, colour: str) -> Figure:
    """Bars that touch, over an axis in ``unit``; the height is the share of texts."""
    shares = np.array(counts) / max(1, sum(counts))
    with styled():
        figure = canvas(_WIDTH, 150)
        axes = figure.add_axes((0.13, 0.27, 0.83, 0.68))
        axes.bar(edges[:-1], shares, width=np.diff(edges) * 0.94, align="edge", color=colour)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(unit)
        axes.locator_params(nbins=5)
        top = max(float(shares.max()), 0.01)
        axes.set_yticks([0, top], ["0", percent(top)])
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.grid(axis="y", color=INK, alpha=0.1)
        return figure


def draw_map(places_N2: NDArray[np.float64], colours: Sequence[str]) -> Figure:
    """A dot for each text. The axes have no unit, so they are not labelled; both are to one scale."""
    with styled():
        figure = canvas(_WIDTH, 270)
        axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
        order = np.argsort([colour != max(set(colours), key=list(colours).count) for colour in colours], kind="stable")
        x_N, y_N = places_N2[order].T
        axes.scatter(x_N, y_N, s=20, c=[colours[i] for i in order], alpha=0.8, linewidths=0)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xticks([])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set(visible=True, alpha=0.25)
        return figure
