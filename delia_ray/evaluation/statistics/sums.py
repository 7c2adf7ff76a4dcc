"""Statistics of sums over items, with bootstrap and t intervals: means, ratios of sums and corpus scores.

An interval combines three and takes the outermost limit on either side:

- The cluster bootstrap resamples whole clusters with replacement, as many as there are. With few clusters the percentile interval is too
  narrow, so its percentiles are expanded to Phi(-t sqrt(G / (G - 1))), with Student's t for G clusters (Hesterberg 2015, The American
  Statistician 69, 371).
- Student's t interval. Neither of the two accounts for a long tail that a small sample of skewed scores does not contain.
- The t interval with Hall's cubic transformation for skewness (Hall 1992, Journal of the Royal Statistical Society B 54, 221) does, but
  it relies too much on the estimated skewness if most scores are equal.

Shape legend: N items, G clusters, K sums, R resamples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from delia_ray.evaluation.statistics.clusters import ClusterCodes, Floats, Grouping, cluster_sums
from delia_ray.evaluation.statistics.intervals import Columns
from delia_ray.evaluation.statistics.proportions import Limits, wilson
from delia_ray.evaluation.statistics.sign_flips import permutation_p_value, sign_flip_p_value

_MAX_COUNTS = 4_000_000  # of a batch of resamples, about 32 MB: bounds the memory of large item sets

Score: TypeAlias = Callable[[NDArray[Any]], Floats]
"""``[R, K]`` sums to ``[R]`` scores."""
Bounds: TypeAlias = tuple[float, float]
"""The lowest and the highest possible score, infinite if there is none."""

UNBOUNDED: Bounds = (-np.inf, np.inf)
NON_NEGATIVE: Bounds = (0.0, np.inf)


@dataclass(frozen=True)
class SumScore:
    """A statistic that is a function of sums over items."""

    parts: Callable[[Columns], NDArray[Any]]
    """``[N, K]`` each item's contribution to the sums."""
    score: Score
    is_linear: bool
    """Whether the score is the first sum over a denominator that both arms share, so that the items' differences add up."""
    bounds: Bounds

    def value(self, columns: Columns) -> float:
        """Compute the statistic of all items."""
        return float(self.score(self.parts(columns).sum(axis=0)[None])[0])

    def influence(self, columns: Columns) -> Floats:
        """Compute the jackknife estimate of the influence function: ``[N]`` with mean 0; all 0 for fewer than two items."""
        parts_NK = self.parts(columns)
        if len(parts_NK) < 2:
            return np.zeros(len(parts_NK))
        leave_one_out_N = self.score(parts_NK.sum(axis=0) - parts_NK)
        return (len(parts_NK) - 1) * (leave_one_out_N.mean() - leave_one_out_N)

    def p_value(self, left: Columns, right: Columns, codes: ClusterCodes, seed: int) -> float:
        """Compute the two-sided p value of ``left`` minus ``right`` by a permutation test by cluster (``sign_flips``)."""
        left_NK, right_NK = self.parts(left), self.parts(right)
        if self.is_linear:
            return sign_flip_p_value(cluster_sums(left_NK[:, 0] - right_NK[:, 0], codes), seed)
        return permutation_p_value(cluster_sums(left_NK, codes), cluster_sums(right_NK, codes), self.score, seed)


class DifferenceLimits(NamedTuple):
    """The limits of a difference of two arms, and of the relative gain."""

    difference: Limits | None
    """None if the items do not vary and the score is unbounded."""
    gain: tuple[float, float] | None
    """Limits of the gain in percent of the right arm."""


def bootstrap_limits(statistic: SumScore, columns: Columns, groupings: Sequence[Grouping], seed: int, resamples: int) -> Limits | None:
    """95 % limits of a statistic, of several groupings the widest; None if all items of an unbounded score are equal."""
    parts_NK, value, influence_N = statistic.parts(columns), statistic.value(columns), statistic.influence(columns)
    by_grouping: list[Limits] = []
    for grouping in groupings:
        sums_GK = cluster_sums(parts_NK, grouping.codes)
        batches = _resample_counts(grouping.clusters, seed, resamples)
        resampled_R = np.concatenate([statistic.score(counts_RG @ sums_GK) for counts_RG in batches])
        limits = _combine_limits(resampled_R, value, influence_N, grouping, statistic.bounds)
        if limits is None:
            return None
        by_grouping.append(limits)
    return max(by_grouping, key=_width)


def bootstrap_difference(
    statistic: SumScore, left: Columns, right: Columns, groupings: Sequence[Grouping], seed: int, resamples: int
) -> DifferenceLimits:
    """95 % limits of ``left`` minus ``right`` by the paired bootstrap (Koehn 2004), of several groupings the widest.

    The gain has no limits if right is not above 0 in every resample.
    """
    value, influence_N = statistic.value(left) - statistic.value(right), statistic.influence(left) - statistic.influence(right)
    lowest, highest = statistic.bounds
    by_grouping: list[tuple[Limits, DifferenceLimits]] = []
    for grouping in groupings:
        sums = [cluster_sums(statistic.parts(columns), grouping.codes) for columns in (left, right)]
        batches = _resample_counts(grouping.clusters, seed, resamples)
        scores = [[statistic.score(counts_RG @ sums_GK) for sums_GK in sums] for counts_RG in batches]
        left_R, right_R = (np.concatenate(arm) for arm in zip(*scores, strict=True))
        limits = _combine_limits(left_R - right_R, value, influence_N, grouping, (lowest - highest, highest - lowest))
        if limits is None:
            return DifferenceLimits(None, None)
        gain = _expanded_percentiles(100 * (left_R - right_R) / right_R, grouping) if np.all(right_R > 0) else None
        by_grouping.append((limits, DifferenceLimits(limits, gain)))
    return max(by_grouping, key=lambda each: _width(each[0]))[1]


def t_limits(value: float, influence_G: Floats, critical_value: float) -> tuple[float, float]:
    """Outermost limits of Student's t interval and of the one with Hall's cubic transformation for skewness (Hall 1992).

    Args:
        value: a mean, or a statistic that is one to first order.
        influence_G: the influence function at each unit, with mean 0; at least three units.
        critical_value: standard errors on either side of a t interval without skewness.
    """
    units = len(influence_G)
    deviation = float(np.std(influence_G, ddof=1))
    if deviation == 0.0:
        return value, value
    # scipy.stats.skew(bias=False), which takes half a second to import.
    skewness = float(((influence_G / deviation) ** 3).sum()) * units / ((units - 1) * (units - 2))
    slope, shift = skewness / np.sqrt(units), skewness / (6 * np.sqrt(units))

    def invert(t: float) -> float:
        return t if abs(slope) < 1e-9 else float(3 / slope * (np.cbrt(1 + slope * (t - shift)) - 1))

    error = float(deviation / np.sqrt(units))
    return (
        value - error * max(critical_value, invert(critical_value)),
        value + error * max(critical_value, -invert(-critical_value)),
    )


def _combine_limits(resampled_R: Floats, value: float, influence_N: Floats, grouping: Grouping, bounds: Bounds) -> Limits | None:
    """Outermost limits of the three intervals, clipped to the bounds; None if the resamples do not vary and a bound is infinite."""
    percentiles = _expanded_percentiles(resampled_R, grouping)
    if percentiles is None:
        return _limits_without_variation(value, bounds, grouping)
    # A cluster is one unit; its influence is that of its items, scaled from a mean over items to a mean over clusters.
    influence_G = cluster_sums(influence_N, grouping.codes) * grouping.clusters / grouping.items
    by_t = t_limits(value, influence_G, _t_critical_value(grouping)) if grouping.clusters > 2 else percentiles
    return Limits(value, max(min(percentiles[0], by_t[0]), bounds[0]), min(max(percentiles[1], by_t[1]), bounds[1]))


def _expanded_percentiles(resampled_R: Floats, grouping: Grouping) -> tuple[float, float] | None:
    """Expanded percentile interval (Hesterberg 2015); None if the resamples do not vary, or there is one cluster."""
    from scipy import special  # noqa: PLC0415  a tenth of a second, and configs must load at once

    if grouping.clusters < 2 or np.ptp(resampled_R) <= 1e-12 * max(1.0, float(np.abs(resampled_R).max())):
        return None
    tail = float(special.ndtr(-_t_critical_value(grouping) * np.sqrt(grouping.clusters / (grouping.clusters - 1))))
    low, high = np.quantile(resampled_R, [tail, 1 - tail])
    return float(low), float(high)


def _t_critical_value(grouping: Grouping) -> float:
    """Critical value of Student's t, for single items as well: unlike that of a rate, the variance of a mean is estimated."""
    from scipy import special  # noqa: PLC0415  a tenth of a second, and configs must load at once

    return float(special.stdtrit(grouping.clusters - 1, 0.975))


def _resample_counts(clusters: int, seed: int, resamples: int) -> Iterator[Floats]:
    """Yield batches ``[r, G]`` of how often each resample contains each cluster, ``resamples`` in all and as many at once as fit."""
    if clusters * resamples <= _MAX_COUNTS:
        yield _cached_counts(clusters, seed, resamples)
        return
    rng = np.random.default_rng(seed)
    batch_size = max(1, _MAX_COUNTS // clusters)
    for start in range(0, resamples, batch_size):
        yield _draw_counts(rng, clusters, min(batch_size, resamples - start))


@lru_cache(maxsize=4)
def _cached_counts(clusters: int, seed: int, resamples: int) -> Floats:
    """Draw the counts once: the resamples are the same for all metrics of all arms."""
    return _draw_counts(np.random.default_rng(seed), clusters, resamples)


def _draw_counts(rng: np.random.Generator, clusters: int, resamples: int) -> Floats:
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(np.float64)


def _limits_without_variation(value: float, bounds: Bounds, grouping: Grouping) -> Limits | None:
    """Limits if all items are equal: the proportion of other items is at most Wilson's upper limit of a rate of 0, at the worst score."""
    if not np.isfinite(bounds).all():
        return None
    lowest, highest = bounds
    proportion = wilson(0.0, grouping.effective_n, grouping.critical_value).high
    return Limits(value, value - proportion * (value - lowest), value + proportion * (highest - value))


def _width(limits: Limits) -> float:
    return limits.high - limits.low
