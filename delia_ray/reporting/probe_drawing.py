"""Curves with their intervals, in stand-in colours (see ``svg``)."""
# pyright: reportUnknownMemberType=false
# matplotlib leaves the keyword arguments of nearly every method untyped

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axis import Axis
from matplotlib.figure import Figure

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.reporting.svg import INK, canvas, styled

_WIDTH, _HEIGHT = 320.0, 190.0


class Curve(NamedTuple):
    """A quantity at each place, and the colour it is drawn in."""

    values: Sequence[Interval]
    colour: str


def draw_intervals(
    places: Sequence[float], curves: Mapping[str, Curve], axis: str, *, logarithmic: bool = False, both: bool = False
) -> Figure:
    """Each curve as dots with whiskers, on a line; a line at 0.

    Args:
        axis: what ``places`` are.
        logarithmic: of ``places``.
        both: of the values, too.
    """
    with styled():
        figure = canvas(_WIDTH, _HEIGHT)
        axes = figure.add_axes((0.16, 0.22, 0.81, 0.74))
        for curve in curves.values():
            values = [each.value or 0.0 for each in curve.values]
            below = [0.0 if each.low is None else max(0.0, value - each.low) for value, each in zip(values, curve.values, strict=True)]
            above = [0.0 if each.high is None else max(0.0, each.high - value) for value, each in zip(values, curve.values, strict=True)]
            axes.errorbar(
                places, values, [below, above], color=curve.colour, ecolor=curve.colour, elinewidth=1.2, capsize=3,
                marker="o", markersize=5, linewidth=1.6,
            )  # fmt: skip
        if logarithmic:
            axes.set_xscale("log")
            _plain_numbers(axes.xaxis)
        if both:
            axes.set_yscale("log")
            _plain_numbers(axes.yaxis)
        else:
            axes.axhline(0, color=INK, linewidth=1, alpha=0.4, zorder=0)
            axes.locator_params(axis="y", nbins=5)
        axes.set_xlabel(axis)
        axes.grid(axis="y", color=INK, alpha=0.1)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0, which="both")
        return figure


def _plain_numbers(axis: Axis) -> None:
    """Powers of ten as numbers: the pages' text is not typeset."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
