"""What the scores of all cells come to, with seeds as the unit (METHOD 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from delia_ray.evaluation.bootstrap import Difference, Interval
from delia_ray.evaluation.multiplicity import with_holm
from delia_ray.evaluation.seeds import paired_seed_difference, seed_interval
from delia_ray.records import Record


class Row(Record):
    """One model's scores."""

    arm: str
    rho: float | None
    """Diverse rows for each task row; null: not trained."""
    n: int | None
    """Task rows."""
    seed: int | None
    learning_rate: float | None
    metrics: dict[str, float | None]
    """Metric -> value; null where nothing was asked."""
    items: dict[str, Interval] = Field(default={})
    """Metric -> the same with its interval over the items."""

    @property
    def place(self) -> "Place":
        return Place(self.arm, self.rho, self.n)


class Place(NamedTuple):
    """Where in the grid a model stands; its seed apart."""

    arm: str
    rho: float | None
    n: int | None

    def __str__(self) -> str:
        return self.arm if self.rho is None else f"{self.arm}, rho {self.rho:g}, N {self.n}"


ByItems: TypeAlias = Mapping[tuple[Place, int | None], Mapping[str, Difference]]
"""(place, seed of the rival) -> metric -> place minus rival, over the items that both were asked."""


@dataclass(frozen=True)
class Saturation:
    """y = start + rise * (1 - exp(-rho / scale)), by least squares over all seeds."""

    start: float
    rise: float
    scale: float
    error: float
    """Root of the mean squared residual."""

    def at(self, rho: NDArray[np.float64]) -> NDArray[np.float64]:
        """The curve at each rho."""
        return self.start + self.rise * -np.expm1(-rho / self.scale)


def places(rows: Sequence[Row]) -> list[Place]:
    """Every arm, ratio and size there is, in order."""
    return list(dict.fromkeys(row.place for row in rows))


def values(rows: Sequence[Row], place: Place, metric: str) -> dict[int | None, float]:
    """Seed -> value, where there is one."""
    found = {row.seed: row.metrics.get(metric) for row in rows if row.place == place}
    return {seed: value for seed, value in found.items() if value is not None}


def mean(rows: Sequence[Row], place: Place, metric: str) -> Interval:
    """Over seeds, with an interval that holds for other seeds and other items; of a model that was not trained, its own."""
    own = [row for row in rows if row.place == place and row.metrics.get(metric) is not None]
    if [row.seed for row in own] == [None] and metric in own[0].items:
        return own[0].items[metric]
    return seed_interval(list(values(rows, place, metric).values()), [row.items[metric] for row in own if metric in row.items])


def differences(rows: Sequence[Row], rival: Place, by_items: ByItems, constants: Mapping[str, float]) -> dict[Place, dict[str, Difference]]:
    """Every place minus ``rival``, paired by seed, with p values adjusted for the number of places (Holm), and the gain of the means.

    A model that was not trained has the same value under every seed.

    Args:
        by_items: what the items say, seed by seed.
        constants: metric -> what the best constant answer scores; there is no gain over a rival that is not above it.
    """
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.metrics))
    found = {
        place: {metric: _difference(rows, place, rival, metric, by_items, constants.get(metric, 0.0)) for metric in metrics}
        for place in places(rows)
        if place != rival
    }
    adjusted = with_holm({str(place): each for place, each in found.items()})
    return {place: adjusted[str(place)] for place in found}


def _difference(rows: Sequence[Row], place: Place, rival: Place, metric: str, by_items: ByItems, floor: float) -> Difference:
    left, right = values(rows, place, metric), values(rows, rival, metric)
    if None in left:
        left = dict.fromkeys(right, left[None])
    seeds = [seed for seed in right if seed in left]
    items = [found[metric] for seed in seeds if metric in (found := by_items.get((place, seed), {}))]
    found = paired_seed_difference([left[seed] for seed in seeds], [right[seed] for seed in seeds], items)
    theirs = float(np.mean([right[seed] for seed in seeds])) if seeds else 0.0
    return found if found.difference is None or theirs <= floor else replace(found, gain_percent=100 * found.difference / theirs)


def gains(rows: Sequence[Row], arm: str, rival: str, metric: str, floor: float = 0.0) -> dict[int, float]:
    """N -> 100 * (arm - rival) / rival, of the means over seeds, for every N that both were trained at (METHOD 4).

    Args:
        floor: there is no gain over a rival that is not above it: what the best constant answer scores.
    """
    means: dict[tuple[str, int], float | None] = {}
    for name, rho, n in places(rows):
        if n is not None:
            means.setdefault((name, n), mean(rows, Place(name, rho, n), metric).value)  # an arm's usual ratio comes first
    pairs = {n: (means.get((arm, n)), means.get((rival, n))) for n in sorted({n for _, n in means})}
    return {
        n: 100 * (ours - theirs) / theirs
        for n, (ours, theirs) in pairs.items()
        if ours is not None and theirs is not None and theirs > floor
    }


def saturation(rows: Sequence[Row], arm: str, n: int, metric: str) -> Saturation | None:
    """The curve through ``arm``'s values over rho; null for fewer than four ratios, or where none fits better than a constant."""
    from scipy.optimize import curve_fit  # noqa: PLC0415  half a second, for experiments only

    points = [(row.rho, value) for row in rows if (row.arm, row.n) == (arm, n) and (value := row.metrics.get(metric)) is not None]
    rho_P, value_P = np.array(points, dtype=np.float64).reshape(-1, 2).T
    if len(set(rho_P)) < 4 or np.ptp(value_P) == 0:
        return None
    guess = (float(value_P[rho_P == rho_P.min()].mean()), float(np.ptp(value_P)), float(rho_P.max() / 2))
    # The ratios that were tried can tell no scale far below the least of them or above the largest.
    bounds = ([-np.inf, -np.inf, rho_P[rho_P > 0].min() / 4], [np.inf, np.inf, 2 * rho_P.max()])
    try:
        fitted, _ = curve_fit(lambda rho, a, b, k: a - b * np.expm1(-rho / k), rho_P, value_P, p0=guess, bounds=bounds)
    except RuntimeError:  # it did not converge
        return None
    found = Saturation(*map(float, fitted), error=0.0)
    error = float(np.sqrt(np.mean((found.at(rho_P) - value_P) ** 2)))
    return Saturation(found.start, found.rise, found.scale, error) if error < np.std(value_P) else None
