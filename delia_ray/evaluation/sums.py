"""Means, ratios of sums and corpus scores: anything that is computed from sums over items, with intervals by cluster bootstrap.

Whole clusters are drawn with replacement, as many as there are. With few of them plain percentiles are too narrow, so the ends are
taken further out: at Phi(-t sqrt(G / (G - 1))), with Student's t for G clusters (Hesterberg 2015, The American Statistician 69, 371).
A mean of single items then has the width of its t interval.

Shape legend: N items, G clusters, K sums, R resamples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class SumScore:
    """A score that sums over items decide."""

    parts: Callable[[Columns], NDArray[Any]]
    """``[N, K]`` what each item adds."""
    score: Score
    is_linear: bool
    """Whether a sum that both arms share divides the rest, so that items add up to the difference of two arms."""
    best: float | None
    """The scale ends at 0 and here; null: it is open."""

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
    """The score with its 95 % limits, the wider ones where there are several groupings; null where all items of an open scale are alike."""
    parts_NK, value = score.parts(columns), score.value(columns)
    found: list[Limits] = []
    for grouping in groupings:
        sums_GK = cluster_sums(parts_NK, grouping.codes)
        drawn_R = np.concatenate([score.score(counts_RG @ sums_GK) for counts_RG in _counts(grouping.clusters, seed, resamples)])
        ends = _ends(drawn_R, grouping) or _unseen(value, 0.0, score.best, grouping)
        if ends is None:
            return None
        found.append(Limits(value, *ends))
    return max(found, key=lambda each: each.high - each.low)


def difference(score: SumScore, left: Columns, right: Columns, groupings: Sequence[Grouping], seed: int, resamples: int) -> Drawn:
    """``left`` minus ``right``, drawn at the same clusters (Koehn 2004), the wider limits where there are several groupings.

    The gain has no limits where right is not above 0 in every resample.
    """
    value = score.value(left) - score.value(right)
    found: list[Drawn] = []
    for grouping in groupings:
        sums = [cluster_sums(score.parts(columns), grouping.codes) for columns in (left, right)]
        drawn = [[score.score(counts_RG @ each) for each in sums] for counts_RG in _counts(grouping.clusters, seed, resamples)]
        left_R, right_R = (np.concatenate(arm) for arm in zip(*drawn, strict=True))
        ends = _ends(left_R - right_R, grouping) or (None if score.best is None else _unseen(value, -score.best, score.best, grouping))
        if ends is None:
            return Drawn(None, None)
        gain = _ends(100 * (left_R - right_R) / right_R, grouping) if np.all(right_R > 0) else None
        found.append(Drawn(Limits(value, *ends), gain))
    return max(found, key=lambda each: 0.0 if each.limits is None else each.limits.high - each.limits.low)


def _counts(clusters: int, seed: int, resamples: int) -> Iterator[Floats]:
    """``[r, G]`` how often each cluster is drawn, for as many resamples r as fit in memory, ``resamples`` in all."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // clusters)
    for start in range(0, resamples, at_once):
        yield rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=min(at_once, resamples - start)).astype(np.float64)


def _ends(drawn_R: Floats, grouping: Grouping) -> tuple[float, float] | None:
    """The expanded percentiles; null where the resamples do not vary, or there is one cluster."""
    from scipy import special  # noqa: PLC0415  a tenth of a second, and configs must load at once

    if grouping.clusters < 2 or np.ptp(drawn_R) <= 1e-12 * max(1.0, float(np.abs(drawn_R).max())):
        return None
    critical = grouping.critical if not grouping.is_single else float(special.stdtrit(grouping.clusters - 1, 0.975))
    tail = float(special.ndtr(-critical * np.sqrt(grouping.clusters / (grouping.clusters - 1))))
    low, high = np.quantile(drawn_R, [tail, 1 - tail])
    return float(low), float(high)


def _unseen(value: float, worst: float, best: float | None, grouping: Grouping) -> tuple[float, float] | None:
    """Where all items are alike, others may be anything on the scale, but no more of them than Wilson's limit of a rate of 0."""
    if best is None:
        return None
    share = wilson(0.0, grouping.effective_n, grouping.critical).high
    return value - share * (value - worst), value + share * (best - value)
