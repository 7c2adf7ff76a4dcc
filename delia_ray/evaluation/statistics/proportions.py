"""Statistics of binary outcomes: rates and functions of rates, with intervals that are valid for rates of 0 and 1.

A single rate has Wilson's score interval (1927), two rates of the same items Newcombe's of method 10 (1998, Statistics in Medicine 17,
2635). Functions of several rates combine the limits of each by the method of variance estimates recovery (MOVER; Zou and Donner 2008).
Clustered items enter by their effective sample size, with Student's t (in the manner of Korn and Graubard 1998): the ``design_effect``
and ``critical_value`` of the ``Grouping``.

Shape legend: N items, G clusters, K sums.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from delia_ray.evaluation.metrics.format_metrics import NO, YES, bal_acc, f1_yes
from delia_ray.evaluation.statistics.clusters import ClusterCodes, Floats, Grouping, cluster_sums
from delia_ray.evaluation.statistics.intervals import Columns
from delia_ray.evaluation.statistics.sign_flips import permutation_p_value, sign_flip_p_value

Hits: TypeAlias = Callable[[Columns], NDArray[np.bool_]]
"""``[N]`` whether each item is a hit."""


class Limits(NamedTuple):
    """An estimate with its lower and upper confidence limit."""

    value: float
    low: float
    high: float


class Proportion(Protocol):
    """A statistic of binary outcomes of items."""

    def value(self, columns: Columns) -> float:
        """Compute the statistic."""
        ...

    def influence(self, columns: Columns) -> Floats:
        """Compute the empirical influence function at each item: ``[N]`` with mean 0."""
        ...

    def limits(self, columns: Columns, grouping: Grouping) -> Limits:
        """Compute the statistic with its 95 % confidence limits."""
        ...

    def p_value(self, left: Columns, right: Columns, codes: ClusterCodes, seed: int) -> float:
        """Compute the two-sided p value of ``left`` minus ``right`` by a permutation test by cluster (``sign_flips``)."""
        ...


def wilson(rate: float, items: float, critical_value: float) -> Limits:
    """Wilson's score interval (1927) of a rate of ``items``, an effective sample size that need not be an integer."""
    if items <= 0:
        return Limits(rate, 0.0, 1.0)
    square = critical_value**2
    center = (rate + square / (2 * items)) / (1 + square / items)
    half_width = critical_value * np.sqrt(rate * (1 - rate) / items + square / (4 * items**2)) / (1 + square / items)
    # At 0 and 1 a rounding error must not move the limit beyond the rate itself.
    return Limits(rate, min(max(0.0, float(center - half_width)), rate), max(min(1.0, float(center + half_width)), rate))


def mover_difference_limits(left: Limits, right: Limits, correlation: float) -> Limits:
    """MOVER limits of ``left - right`` from the limits of both; of two Wilson intervals these are Newcombe's method 10."""
    value = left.value - right.value
    return Limits(
        value,
        value - _mover_distance(left.value - left.low, right.high - right.value, correlation),
        value + _mover_distance(left.high - left.value, right.value - right.low, correlation),
    )


def correlation(left_N: Floats, right_N: Floats, effective_n: float) -> float:
    """Correlation of two influence functions, with Newcombe's continuity correction if it is above 0; 0 if one does not vary."""
    covariance, scale = float(np.mean(left_N * right_N)), float(np.sqrt(np.mean(left_N**2) * np.mean(right_N**2)))
    if scale < 1e-12:
        return 0.0
    corrected = max(covariance - 1 / (2 * effective_n), 0.0) if covariance > 0 else covariance
    return float(np.clip(corrected / scale, -1, 1))


def paired_difference_limits(proportion: Proportion, left: Columns, right: Columns, grouping: Grouping) -> Limits:
    """95 % limits of ``left`` minus ``right`` of two arms that answered the same items."""
    paired_correlation = correlation(proportion.influence(left), proportion.influence(right), grouping.effective_n)
    return mover_difference_limits(proportion.limits(left, grouping), proportion.limits(right, grouping), paired_correlation)


@dataclass(frozen=True)
class Rate:
    """The proportion of items that are hits, with Wilson's interval."""

    hits: Hits

    def value(self, columns: Columns) -> float:
        return float(self.hits(columns).mean())

    def influence(self, columns: Columns) -> Floats:
        return self.hits(columns).astype(np.float64) - self.value(columns)

    def limits(self, columns: Columns, grouping: Grouping) -> Limits:
        return wilson(self.value(columns), grouping.effective_n, grouping.critical_value)

    def p_value(self, left: Columns, right: Columns, codes: ClusterCodes, seed: int) -> float:
        return sign_flip_p_value(cluster_sums(self.paired_differences(left, right), codes), seed)

    def paired_differences(self, left: Columns, right: Columns) -> Floats:
        """Compute each item's difference: ``[N]``, 1 for a hit on the left only, -1 for a hit on the right only."""
        return self.hits(left).astype(np.float64) - self.hits(right)


@dataclass(frozen=True)
class RateDifference:
    """One rate minus another of the same items, with Newcombe's interval."""

    minuend: Rate
    subtrahend: Rate

    def value(self, columns: Columns) -> float:
        return self.minuend.value(columns) - self.subtrahend.value(columns)

    def influence(self, columns: Columns) -> Floats:
        return self.minuend.influence(columns) - self.subtrahend.influence(columns)

    def limits(self, columns: Columns, grouping: Grouping) -> Limits:
        paired_correlation = correlation(self.minuend.influence(columns), self.subtrahend.influence(columns), grouping.effective_n)
        return mover_difference_limits(
            self.minuend.limits(columns, grouping), self.subtrahend.limits(columns, grouping), paired_correlation
        )

    def p_value(self, left: Columns, right: Columns, codes: ClusterCodes, seed: int) -> float:
        differences_N = self.minuend.paired_differences(left, right) - self.subtrahend.paired_differences(left, right)
        return sign_flip_p_value(cluster_sums(differences_N, codes), seed)


@dataclass(frozen=True)
class BalancedAccuracy:
    """BalAcc: the recall of each label, averaged over the labels that occur, with MOVER limits."""

    def value(self, columns: Columns) -> float:
        return float(bal_acc(columns["predicted"], columns["gold"]))

    def influence(self, columns: Columns) -> Floats:
        influence_N = np.zeros(len(columns["gold"]))
        masks = _label_masks(columns)
        for mask_N in masks:
            correct = columns["predicted"][mask_N] == columns["gold"][mask_N]
            influence_N[mask_N] = (correct - correct.mean()) * len(influence_N) / (len(masks) * mask_N.sum())
        return influence_N

    def limits(self, columns: Columns, grouping: Grouping) -> Limits:
        recalls = [
            wilson(
                float((columns["predicted"] == columns["gold"])[mask_N].mean()),
                float(mask_N.sum()) / grouping.design_effect,
                grouping.critical_value,
            )
            for mask_N in _label_masks(columns)
        ]
        value = self.value(columns)
        below = np.sqrt(sum((recall.value - recall.low) ** 2 for recall in recalls)) / len(recalls)
        above = np.sqrt(sum((recall.high - recall.value) ** 2 for recall in recalls)) / len(recalls)
        return Limits(value, float(value - below), float(value + above))

    def p_value(self, left: Columns, right: Columns, codes: ClusterCodes, seed: int) -> float:
        differences_N = (left["predicted"] == left["gold"]).astype(np.float64) - (right["predicted"] == right["gold"])
        masks = _label_masks(left)
        if len(masks) == 2:
            # Each label's items have the number of the other label's items as their weight: integers, for which the test is exact.
            differences_N = differences_N * np.where(masks[0], masks[1].sum(), masks[0].sum())
        return sign_flip_p_value(cluster_sums(differences_N, codes), seed)


@dataclass(frozen=True)
class F1:
    """F1 of ``yes``, 2 J / (1 + J) with J, the proportion of hits among items that are or are predicted ``yes``; so are its limits."""

    def value(self, columns: Columns) -> float:
        return float(f1_yes(columns["predicted"], columns["gold"]))

    def influence(self, columns: Columns) -> Floats:
        numerator_N, denominator_N = _f1_parts(columns).T
        if not denominator_N.any():
            return np.zeros(len(denominator_N))
        return (numerator_N - self.value(columns) * denominator_N) / denominator_N.mean()

    def limits(self, columns: Columns, grouping: Grouping) -> Limits:
        predicted, gold = columns["predicted"] == YES, columns["gold"] == YES
        items = int((predicted | gold).sum())
        jaccard = float((predicted & gold).sum() / max(items, 1))
        return Limits(*(2 * j / (1 + j) for j in wilson(jaccard, items / grouping.design_effect, grouping.critical_value)))

    def p_value(self, left: Columns, right: Columns, codes: ClusterCodes, seed: int) -> float:
        left_GK, right_GK = (cluster_sums(_f1_parts(columns), codes) for columns in (left, right))
        return permutation_p_value(left_GK, right_GK, lambda sums: sums[:, 0] / np.maximum(sums[:, 1], 1), seed)


def _label_masks(columns: Columns) -> list[NDArray[np.bool_]]:
    """For each label that occurs, ``[N]`` whether the gold label is that one."""
    masks: list[NDArray[Any]] = [columns["gold"] == code for code in (NO, YES)]
    return [mask_N for mask_N in masks if mask_N.any()]


def _f1_parts(columns: Columns) -> Floats:
    """``[N, 2]`` each item's part of the numerator and of the denominator of F1."""
    predicted, gold = columns["predicted"] == YES, columns["gold"] == YES
    return np.stack([2.0 * (predicted & gold), predicted.astype(np.float64) + gold], axis=1)


def _mover_distance(left: float, right: float, correlation: float) -> float:
    return float(np.sqrt(max(left**2 - 2 * correlation * left * right + right**2, 0.0)))
