"""Bar charts and dot plots of estimates, and loss curves, in placeholder colors (see ``svg``)."""
# pyright: reportUnknownMemberType=false
# matplotlib leaves the keyword arguments of nearly every method untyped

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.reporting.charts.svg import INK, apply_style, create_figure
from delia_ray.reporting.wording.formatting import format_number, format_percent
from delia_ray.reporting.wording.glossary import get_arm_title

_PANEL_WIDTH, _VALUE_WIDTH, _LETTER_WIDTH, _BOLD_LETTER_WIDTH = 320.0, 62.0, 7.4, 8.5
_CURVE_WIDTH, _CURVE_HEIGHT = 360.0, 230.0

Series = list[tuple[int, float]]
"""(step, loss) of each step."""


class ChartRow(NamedTuple):
    """A labeled estimate: one row of a bar chart or dot plot."""

    label: str
    estimate: Interval | None
    color: str

    @property
    def value(self) -> float | None:
        """Value of the estimate; None where there is none."""
        return None if self.estimate is None else self.estimate.value


def draw_bars(rows: Sequence[ChartRow]) -> Figure:
    """Draw shares as bars from 0 to 100 %, each below its label, with its interval."""
    with apply_style():
        height = 50.0 * len(rows) + 22
        figure = create_figure(_PANEL_WIDTH, height)
        axes = figure.add_axes((0.003, 22 / height, 0.994, 1 - 22 / height))
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.65, -0.65))
        for position, row in enumerate(rows):
            axes.text(0, position - 0.27, row.label, ha="left")
            axes.text(1, position - 0.27, format_percent(row.value), ha="right", fontweight="bold")
            axes.barh(position, 1, height=0.36, color=INK, alpha=0.07)
            if row.value is not None:
                axes.barh(position, row.value, height=0.36, color=row.color)
                _draw_interval(axes, position, row.estimate)
        _strip_frame(axes)
        axes.set_xticks([0, 0.5, 1], [format_percent(tick) for tick in (0, 0.5, 1)])
        _keep_inside(axes)
        return figure


def draw_dots(rows: Sequence[ChartRow], *, is_share: bool, constant: float | None) -> Figure:
    """Draw estimates as dots with intervals on one axis, each beside its label; ``constant`` is a dashed line."""
    names = [_shorten(row.label, 20) for row in rows]
    left = 14 + _LETTER_WIDTH * max(map(len, names))
    show = format_percent if is_share else format_number
    with apply_style():
        height = 27.0 * len(rows) + 24
        figure = create_figure(_PANEL_WIDTH, height)
        axes = figure.add_axes((left / _PANEL_WIDTH, 22 / height, 1 - (left + _VALUE_WIDTH) / _PANEL_WIDTH, 1 - 24 / height))
        low, high = _axis_limits(rows, is_share=is_share)
        axes.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.5))
        for position, row in enumerate(rows):
            axes.annotate(names[position], (0.003, position), xycoords=("figure fraction", "data"), va="center", ha="left")
            axes.annotate(
                show(row.value), (0.997, position), xycoords=("figure fraction", "data"), va="center", ha="right", fontweight="bold"
            )
            if row.value is not None:
                axes.axhline(position, color=INK, alpha=0.15, linewidth=1, zorder=0)
                _draw_interval(axes, position, row.estimate)
                axes.plot([row.value], [position], "o", color=row.color, markersize=9, zorder=3, clip_on=False)
        if constant is not None:
            axes.axvline(constant, color=INK, linewidth=1.2, linestyle=(0, (3, 3)), alpha=0.7, zorder=1)
        _strip_frame(axes)
        if is_share:
            ticks = [-1.0, 0.0, 1.0] if low == -1 else [0.0, 1.0]
            axes.set_xticks(ticks, [format_percent(tick) for tick in ticks])
        else:
            axes.locator_params(axis="x", nbins=2)  # more would run into each other where they have three decimals
            axes.xaxis.set_major_formatter("{x:g}")
        return figure


def draw_loss_curves(series: Mapping[str, Series], colors: Mapping[str, str]) -> Figure:
    """Draw each arm's loss by step as a thin line, and its running mean as a thick line with the arm's label at its end."""
    labels = {arm: _shorten(get_arm_title(arm), 13) for arm in series}
    margins = 42 + 7 + _BOLD_LETTER_WIDTH * max(map(len, labels.values()))
    with apply_style():
        figure = create_figure(_CURVE_WIDTH, _CURVE_HEIGHT)
        axes = figure.add_axes((42 / _CURVE_WIDTH, 38 / _CURVE_HEIGHT, 1 - margins / _CURVE_WIDTH, 1 - 48 / _CURVE_HEIGHT))
        ends: dict[str, float] = {}
        for arm, points in series.items():
            steps, losses = np.array(points).T
            smooth = _running_mean(losses)
            axes.plot(steps, losses, color=colors[arm], linewidth=0.8, alpha=0.4)
            axes.plot(steps, smooth, color=colors[arm], linewidth=2.2)
            ends[arm] = float(smooth[-1])
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("step")
        axes.locator_params(nbins=5)
        axes.grid(axis="y", color=INK, alpha=0.1)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.tick_params(axis="x", pad=6)
        top = axes.get_ylim()[1]
        for arm, height in _separate_labels(ends, 17 / (_CURVE_HEIGHT - 48) * top, top).items():
            axes.annotate(
                labels[arm],
                (1.03, height),
                xycoords=("axes fraction", "data"),
                color=colors[arm],
                va="center",
                fontweight="bold",
            )
        return figure


def _draw_interval(axes: Axes, position: int, estimate: Interval | None) -> None:
    """Draw the part of the interval inside the axis; an end outside, as of an interval over few seeds, has no end mark."""
    if estimate is not None and estimate.low is not None and estimate.high is not None:
        left, right = axes.get_xlim()
        low, high = max(estimate.low, left), min(estimate.high, right)
        ends = [end for end in (estimate.low, estimate.high) if left <= end <= right]
        axes.plot([low, high], [position, position], color=INK, linewidth=1.6, solid_capstyle="butt", zorder=2, clip_on=False)
        axes.plot(ends, [position] * len(ends), "|", color=INK, markersize=8, markeredgewidth=1.6, zorder=2, clip_on=False)


def _strip_frame(axes: Axes) -> None:
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0, pad=4)


def _keep_inside(axes: Axes) -> None:
    """Align the outer tick labels inward, so that none is cut off at the edge."""
    labels = axes.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")


def _axis_limits(rows: Sequence[ChartRow], *, is_share: bool) -> tuple[float, float]:
    """Compute the ends of the axis; shares have 0 to 1, or -1 to 1 where a value is clearly negative."""
    ends = [end for row in rows if row.estimate for end in (row.estimate.low, row.estimate.high, row.estimate.value) if end is not None]
    if is_share:
        lowest = min([0.0, *(row.value for row in rows if row.value is not None)])
        return (-1.0 if lowest < -0.1 else max(-0.1, min([0.0, *ends]))), 1.0
    return min([0.0, *ends]), max([0.0, *ends]) * 1.05 or 1.0


def _running_mean(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the centered mean over a twelfth of the steps, over fewer at the ends."""
    half = max(1, len(losses) // 24)
    return np.array([losses[max(0, i - half) : i + half + 1].mean() for i in range(len(losses))])


def _separate_labels(heights: Mapping[str, float], gap: float, top: float) -> dict[str, float]:
    """Move label heights up until they are at least ``gap`` apart, and down again where they are above ``top``."""
    separated: dict[str, float] = {}
    below, above = -np.inf, top + gap
    for arm in sorted(heights, key=lambda arm: heights[arm]):
        below = separated[arm] = max(heights[arm], below + gap)
    for arm in reversed(separated):
        above = separated[arm] = min(separated[arm], above - gap)
    return separated


def _shorten(label: str, letters: int) -> str:
    return label if len(label) <= letters else f"{label[: letters - 1]}…"
