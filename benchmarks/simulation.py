"""Simulation, with fixed seeds, of the coverage of the intervals and of the false positive rate of the tests.

The items of a cluster share a probability of success, drawn from a beta distribution whose mean is the rate and whose variance gives the
chosen intraclass correlation. Scores have a Gaussian copula: normal values, correlated within a cluster and between two arms, are
transformed to another distribution.

Shape legend: N items, G clusters, A arms.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special

from delia_ray.evaluation.metrics.definitions import MetricDefinition, define_metrics
from delia_ray.evaluation.metrics.format_metrics import INVALID, NO, YES
from delia_ray.evaluation.statistics.clusters import select_grouping
from delia_ray.evaluation.statistics.estimation import estimate_difference
from delia_ray.evaluation.statistics.intervals import Columns
from delia_ray.evaluation.statistics.proportions import Limits, Proportion, paired_difference_limits
from delia_ray.evaluation.statistics.sums import NON_NEGATIVE, UNBOUNDED, Bounds, SumScore, bootstrap_difference, bootstrap_limits

ICC = 0.3
SINGLE_RUNS, PAIRED_RUNS, COMPOSITE_RUNS, MEAN_RUNS, TEST_RUNS = 1000, 1000, 1000, 1000, 2000
RESAMPLES = 1000
_FORMAT_METRICS = define_metrics(("format",))


class Shape(NamedTuple):
    """Number of items and of clusters."""

    items: int
    clusters: int
    is_even: bool = True
    """Whether clusters have equal sizes; otherwise sizes in proportion to 1, 2, 3 and so on."""

    @property
    def icc(self) -> float:
        return 0.0 if self.items == self.clusters else ICC

    def __str__(self) -> str:
        sizes = "" if self.is_even else " of unequal sizes"
        return f"{self.items} alone" if not self.icc else f"{self.items} in {self.clusters} clusters{sizes}"


class Scores(NamedTuple):
    """The distribution of the scores of an arm's items."""

    name: str
    quantile: Callable[[np.ndarray], np.ndarray]
    mean: float
    bounds: Bounds


def _beta(name: str, a: float, b: float) -> Scores:
    return Scores(name, lambda u: special.betaincinv(a, b, u), a / (a + b), (0.0, 1.0))


def _lognormal(name: str, sigma: float, median: float = 1.0) -> Scores:
    return Scores(name, lambda u: median * np.exp(sigma * special.ndtri(u)), median * float(np.exp(sigma**2 / 2)), NON_NEGATIVE)


NORMAL = Scores("normal", special.ndtri, 0.0, UNBOUNDED)
ROUGE = _beta("like ROUGE-L: beta(2, 5)", 2, 5)
BLEU = _beta("like sentence BLEU: beta(0.4, 2)", 0.4, 2)
DRIFT = _lognormal("like the drift: lognormal, sigma 0.7", 0.7)
HEAVY = _lognormal("lognormal, sigma 1", 1.0)
MEANS = (NORMAL, ROUGE, BLEU, DRIFT)
MEAN_PAIRS = (
    ("normal, both", NORMAL, NORMAL, 0.0),
    ("beta(2, 5), 9 of 10 items alike", ROUGE, ROUGE, 0.9),
    ("beta(2, 5) and beta(0.4, 2)", ROUGE, BLEU, 0.0),
    ("lognormal, and half of it", DRIFT, _lognormal("half", 0.7, 0.5), 0.0),
)
"""Name, the arms' distributions, and the proportion of items on which both arms have the same score."""


def draw_outcomes(rng: np.random.Generator, shape: Shape, rate: float, icc: float) -> np.ndarray:
    """Draw the outcomes ``[N]``: whether each item is a success."""
    if rate in (0.0, 1.0) or icc == 0.0:
        chances_G = np.full(shape.clusters, rate)
    else:
        size = 1 / icc - 1
        chances_G = rng.beta(rate * size, (1 - rate) * size, shape.clusters)
    return rng.random(shape.items) < chances_G[assign_codes(shape)]


@cache
def assign_codes(shape: Shape) -> np.ndarray:
    """Assign each item to a cluster, ``[N]``."""
    if shape.is_even:
        return np.arange(shape.items) % shape.clusters
    ends_G = np.cumsum(np.arange(1, shape.clusters + 1))
    return np.searchsorted(ends_G / ends_G[-1], (np.arange(shape.items) + 0.5) / shape.items)


def single_coverage(shape: Shape, rate: float) -> float:
    """Coverage of the interval of one rate."""
    rng = np.random.default_rng([1, *shape, round(100 * rate)])
    score = _get_proportion("format_acc")
    covered = 0
    for _ in range(SINGLE_RUNS):
        columns = {"predicted": _encode_outcomes(draw_outcomes(rng, shape, rate, shape.icc))}
        interval = score.limits(columns, select_grouping(score.influence(columns), [assign_codes(shape)]))
        covered += interval.low <= rate <= interval.high
    return covered / SINGLE_RUNS


def paired_coverage(shape: Shape, rates: tuple[float, float]) -> float:
    """Coverage of the interval of the difference of two rates; if the rates are equal, half of the items have equal outcomes."""
    rng = np.random.default_rng([2, *shape, *(round(100 * rate) for rate in rates)])

    def draw_arms() -> tuple[Columns, Columns]:
        left, right = (draw_outcomes(rng, shape, rate, shape.icc) for rate in rates)
        if rates[0] == rates[1]:
            right = np.where(rng.random(shape.items) < 0.5, left, right)
        return {"predicted": _encode_outcomes(left)}, {"predicted": _encode_outcomes(right)}

    return _coverage("format_acc", draw_arms, shape, rates[0] - rates[1], PAIRED_RUNS)


def composite_coverage(name: str, shape: Shape, rates: tuple[float, float, float, float]) -> float:
    """Coverage of the interval of the difference of two arms in a function of several rates.

    Args:
        name: ``selectivity`` (rates: with and without the token, for each arm), ``bal_acc`` or ``f1_yes`` (rates: of predicting ``yes``
            for items that are ``yes``, and for items that are ``no``, for each arm).
        shape: items and clusters.
        rates: two rates of the left arm, then two of the right one.
    """
    rng = np.random.default_rng([3, len(name), *shape, *(round(100 * rate) for rate in rates)])
    gold = np.where(np.arange(shape.items) // shape.clusters % 2 if shape.icc else np.arange(shape.items) % 2, YES, NO)

    def draw_arm(first_rate: float, second_rate: float) -> Columns:
        first, second = (draw_outcomes(rng, shape, rate, shape.icc) for rate in (first_rate, second_rate))
        if name == "selectivity":
            return {"with_token": _encode_outcomes(first), "without_token": _encode_outcomes(second)}
        return {"predicted": np.where(np.where(gold == YES, first, second), YES, NO).astype(np.int8), "gold": gold.astype(np.int8)}

    return _coverage(
        name,
        lambda: (draw_arm(*rates[:2]), draw_arm(*rates[2:])),
        shape,
        _truth(name, *rates[:2]) - _truth(name, *rates[2:]),
        COMPOSITE_RUNS,
    )


def mean_coverage(shape: Shape, scores: Scores) -> float:
    """Coverage of the interval of a mean."""
    rng = np.random.default_rng([5, len(scores.name), *shape])
    score = _make_mean(scores.bounds)

    def simulate_limits() -> Limits | None:
        columns = {"x": scores.quantile(special.ndtr(_draw_normal(rng, shape, 1)[0]))}
        return bootstrap_limits(score, columns, [select_grouping(score.influence(columns), [assign_codes(shape)])], 0, RESAMPLES)

    return _mean_coverage(simulate_limits, scores.mean)


def mean_difference_coverage(shape: Shape, left: Scores, right: Scores, equal: float) -> float:
    """Coverage of the interval of the difference of two arms' means on the same items, whose scores have a correlation of 0.5.

    A run without an interval, because all items of an unbounded score are equal, does not count.
    """
    rng = np.random.default_rng([6, len(left.name), len(right.name), *shape])
    score = _make_mean(left.bounds)

    def simulate_limits() -> Limits | None:
        left_N, right_N = _draw_normal(rng, shape, 2)
        right_N = np.where(rng.random(shape.items) < equal, left_N, right_N)
        columns = [{"x": each.quantile(special.ndtr(values))} for each, values in ((left, left_N), (right, right_N))]
        influence_N = score.influence(columns[0]) - score.influence(columns[1])
        grouping = select_grouping(influence_N, [assign_codes(shape)])
        return bootstrap_difference(score, columns[0], columns[1], [grouping], 0, RESAMPLES).difference

    return _mean_coverage(simulate_limits, left.mean - right.mean)


def _mean_coverage(draw_limits: Callable[[], Limits | None], truth: float) -> float:
    intervals = [each for each in (draw_limits() for _ in range(MEAN_RUNS)) if each is not None]
    return sum(each.low - 1e-12 <= truth <= each.high + 1e-12 for each in intervals) / len(intervals)


def _draw_normal(rng: np.random.Generator, shape: Shape, arms: int) -> np.ndarray:
    """Draw standard normal values ``[A, N]`` with a correlation of 0.5 between arms and the shape's correlation within clusters."""
    shared = [np.sqrt(0.5) * rng.normal(size=size) for size in (shape.clusters, shape.items)] if arms > 1 else [0.0, 0.0]
    own = np.sqrt(1.0 if arms == 1 else 0.5)
    of_cluster = np.broadcast_to(shared[0] + own * rng.normal(size=(arms, shape.clusters)), (arms, shape.clusters))[:, assign_codes(shape)]
    return np.sqrt(shape.icc) * of_cluster + np.sqrt(1 - shape.icc) * (shared[1] + own * rng.normal(size=(arms, shape.items)))


def _make_mean(bounds: Bounds) -> SumScore:
    return SumScore(
        lambda c: np.stack([c["x"], np.ones(len(c["x"]))], axis=1), lambda sums: sums[:, 0] / sums[:, 1], is_linear=True, bounds=bounds
    )


def false_positive_rate(shape: Shape, icc: float = 0.5) -> float:
    """False positive rate of the permutation test by cluster (p of at most 0.05), for two arms with a rate of 0.5."""
    rng = np.random.default_rng([4, *shape])
    metric = MetricDefinition("test", _get_proportion("format_acc"))
    false_positives = 0
    for _ in range(TEST_RUNS):
        left, right = ({"predicted": _encode_outcomes(draw_outcomes(rng, shape, 0.5, icc))} for _ in range(2))
        p = estimate_difference(metric, left, right, [assign_codes(shape)], 0, 0).p
        assert p is not None
        false_positives += p <= 0.05
    return false_positives / TEST_RUNS


def _coverage(name: str, arms: Callable[[], tuple[Columns, Columns]], shape: Shape, truth: float, runs: int) -> float:
    score = _get_proportion(name)
    covered = 0
    for _ in range(runs):
        left, right = arms()
        interval = paired_difference_limits(
            score, left, right, select_grouping(score.influence(left) - score.influence(right), [assign_codes(shape)])
        )
        covered += interval.low - 1e-12 <= truth <= interval.high + 1e-12
    return covered / runs


def _truth(name: str, first: float, second: float) -> float:
    match name:
        case "selectivity":
            return first - second
        case "bal_acc":
            return (first + 1 - second) / 2
        case _:
            return 2 * first / (first + second + 1)


def _get_proportion(name: str) -> Proportion:
    statistic = _FORMAT_METRICS[name].statistic
    assert not hasattr(statistic, "parts"), "a sum, not a proportion"
    return statistic  # pyright: ignore[reportReturnType]


def _encode_outcomes(hits: np.ndarray) -> np.ndarray:
    return np.where(hits, YES, INVALID).astype(np.int8)
