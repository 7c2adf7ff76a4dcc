"""Statistics over the grid of an experiment, with training seeds as the unit: means, paired differences, gains and curves.

docs/method.md, Arms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from delia_ray.core.records import Record
from delia_ray.evaluation.statistics.intervals import Interval, PairedDifference
from delia_ray.evaluation.statistics.multiplicity import apply_holm_correction
from delia_ray.evaluation.statistics.seeds import paired_seed_difference, seed_interval


class ModelScores(Record):
    """The scores of one model of the grid."""

    arm: str
    rho: float | None
    """Diverse rows for each task row; None for a model that was not trained."""
    n: int | None
    """Number of task rows."""
    seed: int | None
    learning_rate: float | None
    metrics: dict[str, float | None]
    """Metric -> value; None if there were no items."""
    items: dict[str, Interval] = Field(default={})
    """Metric -> value with its interval over items."""

    @property
    def grid_point(self) -> "GridPoint":
        return GridPoint(self.arm, self.rho, self.n)


class GridPoint(NamedTuple):
    """A point of the grid: the models that differ only by their seed."""

    arm: str
    rho: float | None
    n: int | None

    def __str__(self) -> str:
        return self.arm if self.rho is None else f"{self.arm}, rho {self.rho:g}, N {self.n}"


ItemDifferences: TypeAlias = Mapping[tuple[GridPoint, int | None], Mapping[str, PairedDifference]]
"""(grid point, seed of the rival) -> metric -> grid point minus rival, paired by item."""


@dataclass(frozen=True)
class SaturationCurve:
    """y = start + rise * (1 - exp(-rho / scale)), fitted by least squares to the values of all seeds."""

    start: float
    rise: float
    scale: float
    error: float
    """Root mean square error."""

    def predict(self, rho: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate the curve at each rho."""
        return self.start + self.rise * -np.expm1(-rho / self.scale)


def list_grid_points(rows: Sequence[ModelScores]) -> list[GridPoint]:
    """List every combination of arm, ratio and size, in the order of ``rows``."""
    return list(dict.fromkeys(row.grid_point for row in rows))


def values_by_seed(rows: Sequence[ModelScores], point: GridPoint, metric: str) -> dict[int | None, float]:
    """Seed -> value of ``metric`` at ``point``, for the models that have a value."""
    values = {row.seed: row.metrics.get(metric) for row in rows if row.grid_point == point}
    return {seed: value for seed, value in values.items() if value is not None}


def mean_over_seeds(rows: Sequence[ModelScores], point: GridPoint, metric: str) -> Interval:
    """Mean over seeds, with an interval for other seeds and other items; for an untrained model, its value and interval over items."""
    measured = [row for row in rows if row.grid_point == point and row.metrics.get(metric) is not None]
    if [row.seed for row in measured] == [None] and metric in measured[0].items:
        return measured[0].items[metric]
    item_intervals = [row.items[metric] for row in measured if metric in row.items]
    return seed_interval(list(values_by_seed(rows, point, metric).values()), item_intervals)


def paired_differences(
    rows: Sequence[ModelScores], rival: GridPoint, item_differences: ItemDifferences, constants: Mapping[str, float]
) -> dict[GridPoint, dict[str, PairedDifference]]:
    """Every grid point minus ``rival``, paired by seed, with Holm's correction over the grid points, and the relative gain of the means.

    A model that was not trained has the same value under every seed.

    Args:
        rows: the scores of all models.
        rival: the grid point to compare with (``experiment.rival``).
        item_differences: the differences of the same seed, paired by item.
        constants: metric -> score of the best constant answer; a rival that does not exceed it gives no gain.
    """
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.metrics))
    differences = {
        point: {metric: _paired_difference(rows, point, rival, metric, item_differences, constants.get(metric, 0.0)) for metric in metrics}
        for point in list_grid_points(rows)
        if point != rival
    }
    corrected = apply_holm_correction({str(point): by_metric for point, by_metric in differences.items()})
    return {point: corrected[str(point)] for point in differences}


def _paired_difference(
    rows: Sequence[ModelScores], point: GridPoint, rival: GridPoint, metric: str, item_differences: ItemDifferences, floor: float
) -> PairedDifference:
    left, right = values_by_seed(rows, point, metric), values_by_seed(rows, rival, metric)
    if None in left:
        left = dict.fromkeys(right, left[None])
    seeds = [seed for seed in right if seed in left]
    over_items = [by_metric[metric] for seed in seeds if metric in (by_metric := item_differences.get((point, seed), {}))]
    difference = paired_seed_difference([left[seed] for seed in seeds], [right[seed] for seed in seeds], over_items)
    right_mean = float(np.mean([right[seed] for seed in seeds])) if seeds else 0.0
    if difference.difference is None or right_mean <= floor:
        return difference
    return replace(difference, gain_percent=100 * difference.difference / right_mean)


def relative_gains(rows: Sequence[ModelScores], arm: str, rival: str, metric: str, floor: float = 0.0) -> dict[int, float]:
    """N -> 100 * (arm - rival) / rival of the means over seeds, for every N at which both were trained (docs/method.md, T1).

    Args:
        rows: the scores of all models.
        arm: the arm.
        rival: the arm to compare with.
        metric: the metric.
        floor: score of the best constant answer; a rival that does not exceed it gives no gain.
    """
    means: dict[tuple[str, int], float | None] = {}
    for name, rho, n in list_grid_points(rows):
        if n is not None:
            means.setdefault((name, n), mean_over_seeds(rows, GridPoint(name, rho, n), metric).value)  # an arm's usual ratio comes first
    pairs = {n: (means.get((arm, n)), means.get((rival, n))) for n in sorted({n for _, n in means})}
    return {
        n: 100 * (left - right) / right for n, (left, right) in pairs.items() if left is not None and right is not None and right > floor
    }


def fit_saturation(rows: Sequence[ModelScores], arm: str, n: int, metric: str) -> SaturationCurve | None:
    """Fit a saturation curve to the values of ``arm`` over rho.

    None for fewer than four ratios, if the fit does not converge, or if it is no better than a constant.
    """
    from scipy.optimize import curve_fit  # noqa: PLC0415  half a second, for experiments only

    points = [(row.rho, value) for row in rows if (row.arm, row.n) == (arm, n) and (value := row.metrics.get(metric)) is not None]
    rho_P, value_P = np.array(points, dtype=np.float64).reshape(-1, 2).T
    if len(set(rho_P)) < 4 or np.ptp(value_P) == 0:
        return None
    guess = (float(value_P[rho_P == rho_P.min()].mean()), float(np.ptp(value_P)), float(rho_P.max() / 2))
    # A scale far below the smallest ratio or above the largest one cannot be estimated.
    bounds = ([-np.inf, -np.inf, rho_P[rho_P > 0].min() / 4], [np.inf, np.inf, 2 * rho_P.max()])
    try:
        parameters, _ = curve_fit(lambda rho, a, b, k: a - b * np.expm1(-rho / k), rho_P, value_P, p0=guess, bounds=bounds)
    except RuntimeError:  # the fit did not converge
        return None
    curve = SaturationCurve(*map(float, parameters), error=0.0)
    error = float(np.sqrt(np.mean((curve.predict(rho_P) - value_P) ** 2)))
    return replace(curve, error=error) if error < np.std(value_P) else None
