"""Bars, dots and curves of a few rows each, in stand-in colours (see ``svg``)."""
# pyright: reportUnknownMemberType=false
# matplotlib leaves the keyword arguments of nearly every method untyped

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from delia_ray.reporting.glossary import arm_title
from delia_ray.reporting.numerals import number, percent
from delia_ray.reporting.schema import Estimate
from delia_ray.reporting.svg import INK, canvas, styled

_PANEL_WIDTH, _VALUE_WIDTH, _LETTER_WIDTH = 320.0, 62.0, 7.0
_CURVE_WIDTH, _CURVE_HEIGHT = 360.0, 230.0

Series = list[tuple[int, float]]
"""(step, loss)."""


class Row(NamedTuple):
    """One value to draw."""

    label: str
    estimate: Estimate | None
    colour: str

    @property
    def value(self) -> float | None:
        return None if self.estimate is None else self.estimate.value


def draw_bars(rows: Sequence[Row]) -> Figure:
    """Shares as bars from 0 to 100 %, each below its label."""
    with styled():
        height = 50.0 * len(rows) + 22
        figure = canvas(_PANEL_WIDTH, height)
        axes = figure.add_axes((0.003, 22 / height, 0.994, 1 - 22 / height))
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.65, -0.65))
        for place, row in enumerate(rows):
            axes.text(0, place - 0.27, row.label, ha="left")
            axes.text(1, place - 0.27, percent(row.value), ha="right", fontweight="bold")
            axes.barh(place, 1, height=0.36, color=INK, alpha=0.07)
            if row.value is not None:
                axes.barh(place, row.value, height=0.36, color=row.colour)
                _draw_interval(axes, place, row.estimate)
        _strip_frame(axes)
        axes.set_xticks([0, 0.5, 1], [percent(tick) for tick in (0, 0.5, 1)])
        _keep_inside(axes)
        return figure


def draw_dots(rows: Sequence[Row], *, is_share: bool, floor: float | None) -> Figure:
    """Values as dots on one scale, each beside its label; ``floor`` as a dashed line."""
    names = [_shorten(row.label, 20) for row in rows]
    left = 12 + _LETTER_WIDTH * max(map(len, names))
    show = percent if is_share else number
    with styled():
        height = 27.0 * len(rows) + 24
        figure = canvas(_PANEL_WIDTH, height)
        axes = figure.add_axes((left / _PANEL_WIDTH, 22 / height, 1 - (left + _VALUE_WIDTH) / _PANEL_WIDTH, 1 - 24 / height))
        low, high = _limits(rows, is_share=is_share)
        axes.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.5))
        for place, row in enumerate(rows):
            axes.annotate(names[place], (0.003, place), xycoords=("figure fraction", "data"), va="center", ha="left")
            axes.annotate(show(row.value), (0.997, place), xycoords=("figure fraction", "data"), va="center", ha="right", fontweight="bold")
            if row.value is not None:
                axes.axhline(place, color=INK, alpha=0.15, linewidth=1, zorder=0)
                _draw_interval(axes, place, row.estimate)
                axes.plot([row.value], [place], "o", color=row.colour, markersize=9, zorder=3, clip_on=False)
        if floor is not None:
            axes.axvline(floor, color=INK, linewidth=1.2, linestyle=(0, (3, 3)), alpha=0.7, zorder=1)
        _strip_frame(axes)
        if is_share:
            ticks = [-1.0, 0.0, 1.0] if low == -1 else [0.0, 1.0]
            axes.set_xticks(ticks, [percent(tick) for tick in ticks])
        else:
            axes.locator_params(axis="x", nbins=2)  # more would run into each other where they have three decimals
            axes.xaxis.set_major_formatter("{x:g}")
        return figure


def draw_curves(series: Mapping[str, Series], colours: Mapping[str, str]) -> Figure:
    """Each arm's losses by step, thin as they came and thick as a running mean, labelled at their ends."""
    with styled():
        figure = canvas(_CURVE_WIDTH, _CURVE_HEIGHT)
        axes = figure.add_axes((42 / _CURVE_WIDTH, 38 / _CURVE_HEIGHT, 1 - 136 / _CURVE_WIDTH, 1 - 48 / _CURVE_HEIGHT))
        ends: dict[str, float] = {}
        for arm, points in series.items():
            steps, losses = np.array(points).T
            smooth = _running_mean(losses)
            axes.plot(steps, losses, color=colours[arm], linewidth=0.8, alpha=0.4)
            axes.plot(steps, smooth, color=colours[arm], linewidth=2.2)
            ends[arm] = float(smooth[-1])
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("step")
        axes.locator_params(nbins=5)
        axes.grid(axis="y", color=INK, alpha=0.1)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        gap = 17 / (_CURVE_HEIGHT - 48) * axes.get_ylim()[1]
        for arm, place in _spread(ends, gap).items():
            axes.annotate(
                _shorten(arm_title(arm), 13),
                (1.03, place),
                xycoords=("axes fraction", "data"),
                color=colours[arm],
                va="center",
                fontweight="bold",
            )
        return figure


def _draw_interval(axes: Axes, place: int, estimate: Estimate | None) -> None:
    """The part of the interval that the axis holds; an end beyond it, as an interval over few seeds may have, gets no mark."""
    if estimate is not None and estimate.low is not None and estimate.high is not None:
        left, right = axes.get_xlim()
        low, high = max(estimate.low, left), min(estimate.high, right)
        ends = [end for end in (estimate.low, estimate.high) if left <= end <= right]
        axes.plot([low, high], [place, place], color=INK, linewidth=1.6, solid_capstyle="butt", zorder=2, clip_on=False)
        axes.plot(ends, [place] * len(ends), "|", color=INK, markersize=8, markeredgewidth=1.6, zorder=2, clip_on=False)


def _strip_frame(axes: Axes) -> None:
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0, pad=4)


def _keep_inside(axes: Axes) -> None:
    """Outer tick labels grow inwards, so that none is cut at the panel's edge."""
    labels = axes.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")


def _limits(rows: Sequence[Row], *, is_share: bool) -> tuple[float, float]:
    ends = [end for row in rows if row.estimate for end in (row.estimate.low, row.estimate.high, row.estimate.value) if end is not None]
    if is_share:
        return (-1.0 if min([0.0, *ends]) < -0.1 else min([0.0, *ends])), 1.0
    return min([0.0, *ends]), max([0.0, *ends]) * 1.05 or 1.0


def _running_mean(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred mean over a twelfth of the steps, over fewer at the ends."""
    half = max(1, len(losses) // 24)
    return np.array([losses[max(0, at - half) : at + half + 1].mean() for at in range(len(losses))])


def _spread(places: Mapping[str, float], gap: float) -> dict[str, float]:
    """The places pushed up as far as it takes to keep labels ``gap`` apart."""
    spread: dict[str, float] = {}
    below = -np.inf
    for arm in sorted(places, key=lambda arm: places[arm]):
        below = spread[arm] = max(places[arm], below + gap)
    return spread


def _shorten(label: str, letters: int) -> str:
    return label if len(label) <= letters else f"{label[: letters - 1]}…"
