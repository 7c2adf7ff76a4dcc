"""Curves of gradient measurements with error bars, in placeholder colors (see ``svg``)."""
# pyright: reportUnknownMemberType=false
# matplotlib leaves the keyword arguments of nearly every method untyped

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axis import Axis
from matplotlib.figure import Figure

from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.reporting.charts.svg import INK, apply_style, create_figure

_WIDTH, _HEIGHT = 320.0, 190.0


class Curve(NamedTuple):
    """A quantity at each x position, with its color."""

    values: Sequence[Interval]
    color: str


def draw_intervals(
    positions: Sequence[float], curves: Mapping[str, Curve], axis: str, *, logarithmic: bool = False, both: bool = False
) -> Figure:
    """Draw each curve as connected dots with error bars, and a line at 0 where the y axis is linear.

    Args:
        positions: x position of each value.
        axis: label of the x axis.
        logarithmic: use a logarithmic x axis; otherwise positions are whole numbers.
        both: use a logarithmic y axis, too.
    """
    with apply_style():
        figure = create_figure(_WIDTH, _HEIGHT)
        axes = figure.add_axes((0.16, 0.22, 0.81, 0.74))
        for curve in curves.values():
            values = [each.value or 0.0 for each in curve.values]
            below = [0.0 if each.low is None else max(0.0, value - each.low) for value, each in zip(values, curve.values, strict=True)]
            above = [0.0 if each.high is None else max(0.0, each.high - value) for value, each in zip(values, curve.values, strict=True)]
            axes.errorbar(
                positions, values, [below, above], color=curve.color, ecolor=curve.color, elinewidth=1.2, capsize=3,
                marker="o", markersize=5, linewidth=1.6,
            )  # fmt: skip
        if logarithmic:
            axes.set_xscale("log")
            _set_plain_numbers(axes.xaxis)
        else:
            axes.locator_params(axis="x", integer=True)
        if both:
            axes.set_yscale("log")
            _set_plain_numbers(axes.yaxis)
        else:
            axes.axhline(0, color=INK, linewidth=1, alpha=0.4, zorder=0)
            axes.locator_params(axis="y", nbins=5)
        axes.set_xlabel(axis)
        axes.grid(axis="y", color=INK, alpha=0.1)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0, which="both")
        axes.tick_params(axis="x", pad=6)
        return figure


def _set_plain_numbers(axis: Axis) -> None:
    """Label powers of ten as plain numbers, since the SVG does not typeset exponents."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
