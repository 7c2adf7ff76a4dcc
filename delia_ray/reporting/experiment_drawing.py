"""Scores over the ratio of diverse rows, in stand-in colours (see ``svg``)."""
# pyright: reportUnknownMemberType=false
# matplotlib leaves the keyword arguments of nearly every method untyped

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from delia_ray.evaluation.grid import Saturation
from delia_ray.reporting.numerals import percent
from delia_ray.reporting.schema import Estimate
from delia_ray.reporting.svg import INK, canvas, styled

_WIDTH, _HEIGHT = 360.0, 230.0


def draw_dose(
    means: Mapping[float, Estimate], seeds: Mapping[float, Sequence[float]], fit: Saturation | None, colour: str, *, is_share: bool
) -> Figure:
    """A line through the means over seeds, each with its interval, every seed as a small dot, and the fitted curve dashed.

    Args:
        means: rho -> mean over seeds.
        seeds: rho -> each seed's value.
        is_share: the axis is from 0 to 100 %, with room for an interval beyond.
    """
    with styled():
        figure = canvas(_WIDTH, _HEIGHT)
        axes = figure.add_axes((0.14, 0.2, 0.83, 0.75))
        rho = np.array(sorted(means))
        for place in rho:
            estimate = means[place]
            if estimate.low is not None and estimate.high is not None:
                axes.plot([place, place], [estimate.low, estimate.high], color=INK, linewidth=1.4, alpha=0.55, zorder=2)
            axes.plot([place] * len(seeds[place]), seeds[place], "o", color=colour, markersize=4, alpha=0.5, zorder=3, clip_on=False)
        axes.plot(rho, [means[place].value or 0.0 for place in rho], "o-", color=colour, markersize=8, linewidth=2, zorder=4, clip_on=False)
        if fit is not None:
            fine = np.linspace(rho.min(), rho.max(), 200)
            axes.plot(fine, fit.at(fine), color=INK, linestyle=(0, (4, 3)), linewidth=1.2, alpha=0.7)
        axes.set_xlabel("rho: diverse rows for each task row")
        axes.set_xticks(rho, [f"{each:g}" for each in rho])
        if is_share:
            lows = [value for values in seeds.values() for value in values]
            axes.set_ylim(-1 if min(lows) < -0.1 else -0.03, 1.03)
            ticks = [0.0, 0.5, 1.0]
            axes.set_yticks(ticks, [percent(tick) for tick in ticks])
        else:
            axes.set_ylim(bottom=0)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.grid(axis="y", color=INK, alpha=0.1)
        return figure
