"""Charts of scores over the ratio of diverse rows to task rows, in placeholder colors (see ``svg``)."""
# pyright: reportUnknownMemberType=false
# matplotlib leaves the keyword arguments of nearly every method untyped

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from delia_ray.evaluation.statistics.grid import SaturationCurve
from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.reporting.charts.svg import INK, apply_style, create_figure
from delia_ray.reporting.wording.formatting import format_percent

_WIDTH, _HEIGHT = 360.0, 230.0


def draw_scores_by_ratio(
    means: Mapping[float, Interval], seeds: Mapping[float, Sequence[float]], fit: SaturationCurve | None, color: str, *, is_share: bool
) -> Figure:
    """Draw a line through the means over seeds with their intervals, each seed as a small dot, and the fitted curve as a dashed line.

    Args:
        means: rho (diverse rows per task row) -> mean over seeds.
        seeds: rho -> each seed's value.
        fit: curve of the score over rho, if any.
        is_share: draw an axis from 0 to 100 %.
    """
    with apply_style():
        figure = create_figure(_WIDTH, _HEIGHT)
        axes = figure.add_axes((0.14, 0.2, 0.83, 0.75))
        rho = np.array(sorted(means))
        for ratio in rho:
            estimate = means[ratio]
            if estimate.low is not None and estimate.high is not None:
                axes.plot([ratio, ratio], [estimate.low, estimate.high], color=INK, linewidth=1.4, alpha=0.55, zorder=2)
            axes.plot([ratio] * len(seeds[ratio]), seeds[ratio], "o", color=color, markersize=4, alpha=0.5, zorder=3, clip_on=False)
        axes.plot(rho, [means[ratio].value or 0.0 for ratio in rho], "o-", color=color, markersize=8, linewidth=2, zorder=4, clip_on=False)
        if fit is not None:
            grid = np.linspace(rho.min(), rho.max(), 200)
            axes.plot(grid, fit.predict(grid), color=INK, linestyle=(0, (4, 3)), linewidth=1.2, alpha=0.7)
        axes.set_xlabel("rho: diverse rows per task row")
        axes.set_xticks(rho, [f"{ratio:g}" for ratio in rho])
        if is_share:
            all_values = [value for values in seeds.values() for value in values]
            axes.set_ylim(-1 if min(all_values) < -0.1 else -0.03, 1.03)
            ticks = [0.0, 0.5, 1.0]
            axes.set_yticks(ticks, [format_percent(tick) for tick in ticks])
        else:
            axes.set_ylim(bottom=0)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.tick_params(axis="x", pad=6)
        axes.grid(axis="y", color=INK, alpha=0.1)
        return figure
