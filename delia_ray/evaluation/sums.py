"""Means, ratios of sums and corpus scores: anything that is computed from sums over items, with intervals.

Three intervals are taken, and of all the furthest end on either side. The cluster bootstrap draws whole clusters with replacement, as
many as there are; with few of them plain percentiles are too narrow, so the ends are taken further out: at Phi(-t sqrt(G / (G - 1))),
with Student's t for G clusters (Hesterberg 2015, The American Statistician 69, 371). Neither that nor Student's t interval sees the long
tail that a handful of skewed scores has left out; the t interval that is transformed for skewness does (Hall 1992, Journal of the Royal
Statistical Society B 54, 221), but is too sure of the skewness where most scores are alike.

Shape legend: N items, G clusters, K sums, R resamples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from delia_ray.evaluation.bootstrap import Columns
from delia_ray.evaluation.clusters import Codes, Floats, Grouping, cluster_sums
from delia_ray.evaluation.proportions import Limits, wilson
from delia_ray.evaluation.sign_flips import sign_flip_p, swap_p

_CELLS_AT_ONCE = 4_000_000  # bounds the memory of large item sets: about 32 MB

Score: TypeAlias = Callable[[NDArray[Any]], Floats]
"""``[R, K]`` sums to ``[R]`` scores."""
Scale: TypeAlias = tuple[float, float]
"""The least and the most that a score can be, infinite where the scale is open."""

ANY: Scale = (-np.inf, np.inf)
POSITIVE: Scale = (0.0, np.inf)


@dataclass(frozen=True)
class SumScore:
    """A score that sums over items decide."""

    parts: Callable[[Columns], NDArray[Any]]
    """``[N, K]`` what each item adds."""
    score: Score
    is_linear: bool
    """Whether a sum that both arms share divides the rest, so that items add up to the difference of two arms."""
    scale: Scale

    def value(self, columns: Columns) -> float:
        """The score of all items."""
        return float(self.score(self.parts(columns).sum(axis=0)[None])[0])

    def influence(self, columns: Columns) -> Floats:
        """``[N]`` with mean 0, by leaving out each item in turn; all 0 where that leaves nothing."""
        parts_NK = self.parts(columns)
        if len(parts_NK) < 2:
            return np.zeros(len(parts_NK))
        without_N = self.score(parts_NK.sum(axis=0) - parts_NK)
        return (len(parts_NK) - 1) * (without_N.mean() - without_N)

    def p(self, left: Columns, right: Columns, codes: Codes, seed: int) -> float:
        """Two-sided p of ``left`` minus ``right``, exchanged by cluster (``sign_flips``)."""
        left_NK, right_NK = self.parts(left), self.parts(right)
        if self.is_linear:
            return sign_flip_p(cluster_sums(left_NK[:, 0] - right_NK[:, 0], codes), seed)
        return swap_p(cluster_sums(left_NK, codes), cluster_sums(right_NK, codes), self.score, seed)


class Drawn(NamedTuple):
    """A difference of two arms, and how large it is in percent of the right one."""

    limits: Limits | None
    gain: tuple[float, float] | None


def limits(score: SumScore, columns: Columns, groupings: Sequence[Grouping], seed: int, resamples: int) -> Limits | None:
    """The score with its 95 % limits, the wider ones where there are several groupings; None where all items of an open scale are alike."""
    parts_NK, value, influence_N = score.parts(columns), score.value(columns), score.influence(columns)
    found: list[Limits] = []
    for grouping in groupings:
        sums_GK = cluster_sums(parts_NK, grouping.codes)
        drawn_R = np.concatenate([score.score(counts_RG @ sums_GK) for counts_RG in _counts(grouping.clusters, seed, resamples)])
        ends = _ends(drawn_R, value, influence_N, grouping, score.scale)
        if ends is None:
            return None
        found.append(ends)
    return max(found, key=_width)


def difference(score: SumScore, left: Columns, right: Columns, groupings: Sequence[Grouping], seed: int, resamples: int) -> Drawn:
    """``left`` minus ``right``, drawn at the same clusters (Koehn 2004), the wider limits where there are several groupings.

    The gain has no limits where right is not above 0 in every resample.
    """
    value, influence_N = score.value(left) - score.value(right), score.influence(left) - score.influence(right)
    worst, best = score.scale
    found: list[tuple[Limits, Drawn]] = []
    for grouping in groupings:
        sums = [cluster_sums(score.parts(columns), grouping.codes) for columns in (left, right)]
        drawn = [[score.score(counts_RG @ each) for each in sums] for counts_RG in _counts(grouping.clusters, seed, resamples)]
        left_R, right_R = (np.concatenate(arm) for arm in zip(*drawn, strict=True))
        ends = _ends(left_R - right_R, value, influence_N, grouping, (worst - best, best - worst))
        if ends is None:
            return Drawn(None, None)
        gain = _percentiles(100 * (left_R - right_R) / right_R, grouping) if np.all(right_R > 0) else None
        found.append((ends, Drawn(ends, gain)))
    return max(found, key=lambda each: _width(each[0]))[1]


def t_ends(value: float, influence_G: Floats, critical: float) -> tuple[float, float]:
    """The further ends of Student's t interval and of the one that is transformed for skewness (Hall 1992, the cubic transformation).

    Args:
        value: a mean, or what is like one to first order.
        influence_G: with mean 0: how far each unit lies from it. At least three.
        critical: how many standard errors the interval reaches where nothing is skewed.
    """
    units = len(influence_G)
    spread = float(np.std(influence_G, ddof=1))
    if spread == 0.0:
        return value, value
    # scipy.stats.skew(bias=False), which takes half a second to import.
    skew = float(((influence_G / spread) ** 3).sum()) * units / ((units - 1) * (units - 2))
    slope, shift = skew / np.sqrt(units), skew / (6 * np.sqrt(units))

    def untransformed(t: float) -> float:
        return t if abs(slope) < 1e-9 else float(3 / slope * (np.cbrt(1 + slope * (t - shift)) - 1))

    error = float(spread / np.sqrt(units))
    return value - error * max(critical, untransformed(critical)), value + error * max(critical, -untransformed(-critical))


def _ends(drawn_R: Floats, value: float, influence_N: Floats, grouping: Grouping, scale: Scale) -> Limits | None:
    """The limits, within the scale; None where the resamples do not vary and the scale is open."""
    percentiles = _percentiles(drawn_R, grouping)
    if percentiles is None:
        return _unseen(value, scale, grouping)
    # Every cluster counts as one draw, and adds to the score's error what its items do.
    influence_G = cluster_sums(influence_N, grouping.codes) * grouping.clusters / grouping.items
    of_t = t_ends(value, influence_G, _critical(grouping)) if grouping.clusters > 2 else percentiles
    return Limits(value, max(min(percentiles[0], of_t[0]), scale[0]), min(max(percentiles[1], of_t[1]), scale[1]))


def _percentiles(drawn_R: Floats, grouping: Grouping) -> tuple[float, float] | None:
    """The expanded percentiles; None where the resamples do not vary, or there is one cluster."""
    from scipy import special  # noqa: PLC0415  a tenth of a second, and configs must load at once

    if grouping.clusters < 2 or np.ptp(drawn_R) <= 1e-12 * max(1.0, float(np.abs(drawn_R).max())):
        return None
    tail = float(special.ndtr(-_critical(grouping) * np.sqrt(grouping.clusters / (grouping.clusters - 1))))
    low, high = np.quantile(drawn_R, [tail, 1 - tail])
    return float(low), float(high)


def _critical(grouping: Grouping) -> float:
    """Student's t also for single items, whose spread is not known as that of a rate is."""
    from scipy import special  # noqa: PLC0415  a tenth of a second, and configs must load at once

    return float(special.stdtrit(grouping.clusters - 1, 0.975))


def _counts(clusters: int, seed: int, resamples: int) -> Iterator[Floats]:
    """``[r, G]`` how often each cluster is drawn, for as many resamples r as fit in memory, ``resamples`` in all."""
    if clusters * resamples <= _CELLS_AT_ONCE:
        yield _few_counts(clusters, seed, resamples)
        return
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // clusters)
    for start in range(0, resamples, at_once):
        yield _draw(rng, clusters, min(at_once, resamples - start))


@lru_cache(maxsize=4)
def _few_counts(clusters: int, seed: int, resamples: int) -> Floats:
    """Kept: all metrics of all arms are drawn at the same clusters."""
    return _draw(np.random.default_rng(seed), clusters, resamples)


def _draw(rng: np.random.Generator, clusters: int, resamples: int) -> Floats:
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(np.float64)


def _unseen(value: float, scale: Scale, grouping: Grouping) -> Limits | None:
    """Where all items are alike, others may be anything on the scale, but no more of them than Wilson's limit of a rate of 0."""
    if not np.isfinite(scale).all():
        return None
    worst, best = scale
    share = wilson(0.0, grouping.effective_n, grouping.critical).high
    return Limits(value, value - share * (value - worst), value + share * (best - value))


def _width(limits: Limits) -> float:
    return limits.high - limits.low
