"""Lines over a model's layers, in stand-in colours (see ``svg``)."""
# pyright: reportUnknownMemberType=false
# matplotlib leaves the keyword arguments of nearly every method untyped

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from matplotlib.figure import Figure

from delia_ray.reporting.numerals import percent
from delia_ray.reporting.svg import INK, canvas, styled

_WIDTH, _HEIGHT = 320.0, 190.0
_DASHES: dict[str, Any] = {"solid": "-", "dashed": (0, (4, 2.5)), "dotted": (0, (1, 2))}


class LayerLine(NamedTuple):
    """A value at every layer."""

    values: Sequence[float]
    low: Sequence[float] | None
    high: Sequence[float] | None
    """With ``low`` the edges of a band; null: none is drawn."""
    colour: str
    style: Literal["solid", "dashed", "dotted"]


def draw_layers(lines: Sequence[LayerLine], *, is_share: bool, top: float | None = None) -> Figure:
    """Lines from layer 0, the embedding, to the last.

    Args:
        lines: the first on top.
        is_share: whether values are shares, on an axis from 0 to 100 %.
        top: end of the axis where values are none; null: what the lines need.
    """
    with styled():
        figure = canvas(_WIDTH, _HEIGHT)
        axes = figure.add_axes((42 / _WIDTH, 38 / _HEIGHT, 1 - 50 / _WIDTH, 1 - 46 / _HEIGHT))
        for line in reversed(lines):
            places = range(len(line.values))
            if line.low is not None and line.high is not None:
                axes.fill_between(places, line.low, line.high, color=line.colour, alpha=0.18, linewidth=0)
            solid = line.style == "solid"
            axes.plot(places, line.values, color=line.colour, linewidth=2.0 if solid else 1.5, linestyle=_DASHES[line.style])
        axes.set_xlim(0, max(len(line.values) for line in lines) - 1)
        axes.set_xlabel("layer")
        if is_share:
            axes.axhline(0.5, color=INK, linewidth=0.8, alpha=0.35)
            axes.set_ylim(-0.02, 1.02)
            axes.set_yticks([0, 0.5, 1], [percent(tick) for tick in (0, 0.5, 1)])
        else:
            lowest = min(min(line.values) for line in lines)
            axes.set_ylim(min(0.0, lowest * 1.05), top)
            axes.locator_params(axis="y", nbins=5)
        axes.locator_params(axis="x", nbins=6, integer=True)
        axes.grid(axis="y", color=INK, alpha=0.1)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        return figure
