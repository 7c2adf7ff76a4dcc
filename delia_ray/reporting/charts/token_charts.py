"""Charts of values over a model's layers, in placeholder colors (see ``svg``)."""
# pyright: reportUnknownMemberType=false
# matplotlib leaves the keyword arguments of nearly every method untyped

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from matplotlib.figure import Figure

from delia_ray.reporting.charts.svg import INK, apply_style, create_figure
from delia_ray.reporting.wording.formatting import format_percent

_WIDTH, _HEIGHT = 320.0, 190.0
_DASHES: dict[str, Any] = {"solid": "-", "dashed": (0, (4, 2.5)), "dotted": (0, (1, 2))}


class LayerLine(NamedTuple):
    """A value at each layer, with its band, color and line style."""

    values: Sequence[float]
    low: Sequence[float] | None
    high: Sequence[float] | None
    """``low`` and ``high`` are the edges of the band; None for no band."""
    color: str
    style: Literal["solid", "dashed", "dotted"]


def draw_layers(lines: Sequence[LayerLine], *, is_share: bool, top: float | None = None) -> Figure:
    """Draw lines from layer 0, the embedding, to the last layer.

    Args:
        lines: the first is drawn on top.
        is_share: draw an axis from 0 to 100 %.
        top: upper end of the axis where values are not shares; None to fit the lines.
    """
    with apply_style():
        figure = create_figure(_WIDTH, _HEIGHT)
        axes = figure.add_axes((42 / _WIDTH, 38 / _HEIGHT, 1 - 50 / _WIDTH, 1 - 46 / _HEIGHT))
        for line in reversed(lines):
            layers = range(len(line.values))
            if line.low is not None and line.high is not None:
                axes.fill_between(layers, line.low, line.high, color=line.color, alpha=0.18, linewidth=0)
            solid = line.style == "solid"
            axes.plot(layers, line.values, color=line.color, linewidth=2.0 if solid else 1.5, linestyle=_DASHES[line.style])
        axes.set_xlim(0, max(len(line.values) for line in lines) - 1)
        axes.set_xlabel("layer")
        if is_share:
            axes.axhline(0.5, color=INK, linewidth=0.8, alpha=0.35)
            axes.set_ylim(-0.02, 1.02)
            axes.set_yticks([0, 0.5, 1], [format_percent(tick) for tick in (0, 0.5, 1)])
        else:
            lowest = min(min(line.values) for line in lines)
            axes.set_ylim(min(0.0, lowest * 1.05), top)
            axes.locator_params(axis="y", nbins=5)
        axes.locator_params(axis="x", nbins=6, integer=True)
        axes.grid(axis="y", color=INK, alpha=0.1)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.tick_params(axis="x", pad=6)
        return figure
