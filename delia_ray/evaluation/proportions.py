"""Rates and what is made of rates, with intervals that hold where a rate is 0 or 1.

A single rate has Wilson's score interval (1927), two rates of the same items Newcombe's of method 10 (1998, Statistics in Medicine 17,
2635). What is made of several rates keeps the limits of each and adds up how far they reach (MOVER; Zou and Donner 2008). Items in
clusters enter by their effective number, with Student's t (in the manner of Korn and Graubard 1998): the caller's ``design_effect`` and
``critical``.

Shape legend: N items.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from delia_ray.evaluation.bootstrap import Columns
from delia_ray.evaluation.clusters import Codes, Floats, Grouping, cluster_sums
from delia_ray.evaluation.format_metrics import NO, YES, bal_acc, f1_yes
from delia_ray.evaluation.sign_flips import sign_flip_p, swap_p

Hits: TypeAlias = Callable[[Columns], NDArray[np.bool_]]
"""``[N]`` which items count."""


class Limits(NamedTuple):
    """A value between its limits."""

    value: float
    low: float
    high: float


class Proportion(Protocol):
    """A score that is made of yes-or-no outcomes of items."""

    def value(self, columns: Columns) -> float:
        """The score."""
        ...

    def influence(self, columns: Columns) -> Floats:
        """``[N]`` with mean 0: what each item adds to the score's error, to first order."""
        ...

    def limits(self, columns: Columns, grouping: Grouping) -> Limits:
        """The score with its 95 % limits."""
        ...

    def p(self, left: Columns, right: Columns, codes: Codes, seed: int) -> float:
        """Two-sided p of ``left`` minus ``right``, exchanged by cluster (``sign_flips``)."""
        ...


def wilson(rate: float, items: float, critical: float) -> Limits:
    """Wilson's score interval of a rate of ``items``, which need not be a whole number."""
    if items <= 0:
        return Limits(rate, 0.0, 1.0)
    square = critical**2
    middle = (rate + square / (2 * items)) / (1 + square / items)
    reach = critical * np.sqrt(rate * (1 - rate) / items + square / (4 * items**2)) / (1 + square / items)
    # At 0 and 1 rounding must not push the limit past the rate itself.
    return Limits(rate, min(max(0.0, float(middle - reach)), rate), max(min(1.0, float(middle + reach)), rate))


def difference_limits(left: Limits, right: Limits, correlation: float) -> Limits:
    """``left - right`` from the limits of both; of two Wilson intervals this is Newcombe's method 10."""
    value = left.value - right.value
    return Limits(
        value,
        value - _reach(left.value - left.low, right.high - right.value, correlation),
        value + _reach(left.high - left.value, right.value - right.low, correlation),
    )


def correlation(left_N: Floats, right_N: Floats, effective_n: float) -> float:
    """Of two influences, with Newcombe's continuity correction where it is above 0; 0 where one does not vary."""
    covariance, scale = float(np.mean(left_N * right_N)), float(np.sqrt(np.mean(left_N**2) * np.mean(right_N**2)))
    if scale < 1e-12:
        return 0.0
    corrected = max(covariance - 1 / (2 * effective_n), 0.0) if covariance > 0 else covariance
    return float(np.clip(corrected / scale, -1, 1))


def compared(proportion: Proportion, left: Columns, right: Columns, grouping: Grouping) -> Limits:
    """``left`` minus ``right`` of two arms that answered the same items."""
    related = correlation(proportion.influence(left), proportion.influence(right), grouping.effective_n)
    return difference_limits(proportion.limits(left, grouping), proportion.limits(right, grouping), related)


@dataclass(frozen=True)
class Rate:
    """The share of items that count."""

    hits: Hits

    def value(self, columns: Columns) -> float:
        return float(self.hits(columns).mean())

    def influence(self, columns: Columns) -> Floats:
        return self.hits(columns).astype(np.float64) - self.value(columns)

    def limits(self, columns: Columns, grouping: Grouping) -> Limits:
        return wilson(self.value(columns), grouping.effective_n, grouping.critical)

    def p(self, left: Columns, right: Columns, codes: Codes, seed: int) -> float:
        return sign_flip_p(cluster_sums(self.moved(left, right), codes), seed)

    def moved(self, left: Columns, right: Columns) -> Floats:
        """``[N]`` 1 for an item that counts on the left only, -1 on the right only."""
        return self.hits(left).astype(np.float64) - self.hits(right)


@dataclass(frozen=True)
class RateDifference:
    """One rate minus another of the same items."""

    more: Rate
    less: Rate

    def value(self, columns: Columns) -> float:
        return self.more.value(columns) - self.less.value(columns)

    def influence(self, columns: Columns) -> Floats:
        return self.more.influence(columns) - self.less.influence(columns)

    def limits(self, columns: Columns, grouping: Grouping) -> Limits:
        related = correlation(self.more.influence(columns), self.less.influence(columns), grouping.effective_n)
        return difference_limits(self.more.limits(columns, grouping), self.less.limits(columns, grouping), related)

    def p(self, left: Columns, right: Columns, codes: Codes, seed: int) -> float:
        return sign_flip_p(cluster_sums(self.more.moved(left, right) - self.less.moved(left, right), codes), seed)


@dataclass(frozen=True)
class BalancedRate:
    """BalAcc: the rates of right predictions of each label, averaged over the labels that occur."""

    def value(self, columns: Columns) -> float:
        return float(bal_acc(columns["predicted"], columns["gold"]))

    def influence(self, columns: Columns) -> Floats:
        influence_N = np.zeros(len(columns["gold"]))
        masks = _labels(columns)
        for of_label in masks:
            right = columns["predicted"][of_label] == columns["gold"][of_label]
            influence_N[of_label] = (right - right.mean()) * len(influence_N) / (len(masks) * of_label.sum())
        return influence_N

    def limits(self, columns: Columns, grouping: Grouping) -> Limits:
        masks = _labels(columns)
        each = [
            wilson(
                float((columns["predicted"] == columns["gold"])[of_label].mean()),
                float(of_label.sum()) / grouping.design_effect,
                grouping.critical,
            )
            for of_label in masks
        ]
        value = self.value(columns)
        below = np.sqrt(sum((rate.value - rate.low) ** 2 for rate in each)) / len(each)
        above = np.sqrt(sum((rate.high - rate.value) ** 2 for rate in each)) / len(each)
        return Limits(value, float(value - below), float(value + above))

    def p(self, left: Columns, right: Columns, codes: Codes, seed: int) -> float:
        moved = (left["predicted"] == left["gold"]).astype(np.float64) - (right["predicted"] == right["gold"])
        masks = _labels(left)
        if len(masks) == 2:
            # A label's items weigh as many times as the other label has items: whole numbers, which an exact test can count.
            moved = moved * np.where(masks[0], masks[1].sum(), masks[0].sum())
        return sign_flip_p(cluster_sums(moved, codes), seed)


@dataclass(frozen=True)
class F1:
    """F1 of ``yes``. With J, the share of hits among items that are ``yes`` or said to be, it is 2 J / (1 + J), and so are its limits."""

    def value(self, columns: Columns) -> float:
        return float(f1_yes(columns["predicted"], columns["gold"]))

    def influence(self, columns: Columns) -> Floats:
        hits_N, total_N = _hits_and_total(columns).T
        return (hits_N - self.value(columns) * total_N) / total_N.mean() if total_N.any() else np.zeros(len(total_N))

    def limits(self, columns: Columns, grouping: Grouping) -> Limits:
        said, true = columns["predicted"] == YES, columns["gold"] == YES
        items = int((said | true).sum())
        share = float((said & true).sum() / max(items, 1))
        return Limits(*(2 * j / (1 + j) for j in wilson(share, items / grouping.design_effect, grouping.critical)))

    def p(self, left: Columns, right: Columns, codes: Codes, seed: int) -> float:
        left_GK, right_GK = (cluster_sums(_hits_and_total(columns), codes) for columns in (left, right))
        return swap_p(left_GK, right_GK, lambda sums: sums[:, 0] / np.maximum(sums[:, 1], 1), seed)


def _labels(columns: Columns) -> list[NDArray[np.bool_]]:
    """For each label that occurs, ``[N]`` which items have it."""
    masks: list[NDArray[Any]] = [columns["gold"] == code for code in (NO, YES)]
    return [of_label for of_label in masks if of_label.any()]


def _hits_and_total(columns: Columns) -> Floats:
    said, true = columns["predicted"] == YES, columns["gold"] == YES
    return np.stack([2.0 * (said & true), said.astype(np.float64) + true], axis=1)


def _reach(one: float, other: float, correlation: float) -> float:
    return float(np.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0)))
