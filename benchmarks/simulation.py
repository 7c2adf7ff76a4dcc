"""How often intervals cover the truth and tests are wrong, by simulation with fixed seeds.

Items of a cluster have one chance of success, which is drawn from a beta distribution whose mean is the rate and whose spread makes their
intraclass correlation what it is said to be. Scores are normal values, correlated within a cluster and between two arms, that are given
another distribution (a Gaussian copula).
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special

from delia_ray.evaluation.bootstrap import Columns
from delia_ray.evaluation.clusters import group
from delia_ray.evaluation.estimation import compare
from delia_ray.evaluation.format_metrics import INVALID, NO, YES
from delia_ray.evaluation.measures import Measure, measures
from delia_ray.evaluation.proportions import Limits, Proportion, compared
from delia_ray.evaluation.sums import ANY, POSITIVE, Scale, SumScore, difference, limits

ICC = 0.3
SINGLE_RUNS, PAIRED_RUNS, MADE_RUNS, MEAN_RUNS, TEST_RUNS = 1000, 1000, 1000, 1000, 2000
RESAMPLES = 1000
_FORMAT = measures(("format",))


class Shape(NamedTuple):
    """So many items in so many clusters."""

    items: int
    clusters: int
    is_even: bool = True
    """Whether clusters have one size; or else sizes in proportion to 1, 2, 3 and so on."""

    @property
    def icc(self) -> float:
        return 0.0 if self.items == self.clusters else ICC

    def __str__(self) -> str:
        sizes = "" if self.is_even else " of unequal sizes"
        return f"{self.items} alone" if not self.icc else f"{self.items} in {self.clusters} clusters{sizes}"


class Scores(NamedTuple):
    """How the scores of an arm's items are distributed."""

    name: str
    quantile: Callable[[np.ndarray], np.ndarray]
    mean: float
    scale: Scale


def _beta(name: str, a: float, b: float) -> Scores:
    return Scores(name, lambda u: special.betaincinv(a, b, u), a / (a + b), (0.0, 1.0))


def _lognormal(name: str, sigma: float, median: float = 1.0) -> Scores:
    return Scores(name, lambda u: median * np.exp(sigma * special.ndtri(u)), median * float(np.exp(sigma**2 / 2)), POSITIVE)


NORMAL = Scores("normal", special.ndtri, 0.0, ANY)
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
"""Name, the arms' scores, and how many of the items both arms answer alike."""


def draw(rng: np.random.Generator, shape: Shape, rate: float, icc: float) -> np.ndarray:
    """``[N]`` which items succeed."""
    if rate in (0.0, 1.0) or icc == 0.0:
        chances_G = np.full(shape.clusters, rate)
    else:
        size = 1 / icc - 1
        chances_G = rng.beta(rate * size, (1 - rate) * size, shape.clusters)
    return rng.random(shape.items) < chances_G[codes(shape)]


@cache
def codes(shape: Shape) -> np.ndarray:
    """``[N]`` the cluster of each item."""
    if shape.is_even:
        return np.arange(shape.items) % shape.clusters
    ends_G = np.cumsum(np.arange(1, shape.clusters + 1))
    return np.searchsorted(ends_G / ends_G[-1], (np.arange(shape.items) + 0.5) / shape.items)


def single_coverage(shape: Shape, rate: float) -> float:
    """How often the interval of one rate holds it."""
    rng = np.random.default_rng([1, *shape, round(100 * rate)])
    score = _proportion("format_acc")
    covered = 0
    for _ in range(SINGLE_RUNS):
        columns = {"predicted": _predicted(draw(rng, shape, rate, shape.icc))}
        found = score.limits(columns, group(score.influence(columns), [codes(shape)]))
        covered += found.low <= rate <= found.high
    return covered / SINGLE_RUNS


def paired_coverage(shape: Shape, rates: tuple[float, float]) -> float:
    """How often the interval of the difference of two rates holds it; of equal rates half of the items come out alike."""
    rng = np.random.default_rng([2, *shape, *(round(100 * rate) for rate in rates)])

    def arms() -> tuple[Columns, Columns]:
        left, right = (draw(rng, shape, rate, shape.icc) for rate in rates)
        if rates[0] == rates[1]:
            right = np.where(rng.random(shape.items) < 0.5, left, right)
        return {"predicted": _predicted(left)}, {"predicted": _predicted(right)}

    return _coverage("format_acc", arms, shape, rates[0] - rates[1], PAIRED_RUNS)


def made_coverage(name: str, shape: Shape, rates: tuple[float, float, float, float]) -> float:
    """The same of what is made of several rates.

    Args:
        name: ``selectivity`` (rates with and without the token, of either arm), ``bal_acc`` or ``f1_yes`` (how often items that are
            ``yes`` are said to be, and items that are not, of either arm).
    """
    rng = np.random.default_rng([3, len(name), *shape, *(round(100 * rate) for rate in rates)])
    gold = np.where(np.arange(shape.items) // shape.clusters % 2 if shape.icc else np.arange(shape.items) % 2, YES, NO)

    def arm(one: float, other: float) -> Columns:
        first, second = (draw(rng, shape, rate, shape.icc) for rate in (one, other))
        if name == "selectivity":
            return {"with_token": _predicted(first), "without_token": _predicted(second)}
        return {"predicted": np.where(np.where(gold == YES, first, second), YES, NO).astype(np.int8), "gold": gold.astype(np.int8)}

    return _coverage(
        name, lambda: (arm(*rates[:2]), arm(*rates[2:])), shape, _truth(name, *rates[:2]) - _truth(name, *rates[2:]), MADE_RUNS
    )


def mean_coverage(shape: Shape, scores: Scores) -> float:
    """How often the interval of a mean holds it."""
    rng = np.random.default_rng([5, len(scores.name), *shape])
    score = _mean(scores.scale)

    def found() -> Limits | None:
        columns = {"x": scores.quantile(special.ndtr(_normal(rng, shape, 1)[0]))}
        return limits(score, columns, [group(score.influence(columns), [codes(shape)])], 0, RESAMPLES)

    return _mean_coverage(found, scores.mean)


def mean_difference_coverage(shape: Shape, left: Scores, right: Scores, alike: float) -> float:
    """The same of the difference of two arms' means on the same items, correlated with 0.5; where all items come out alike and the scale
    is open there is no interval, and nothing is counted."""
    rng = np.random.default_rng([6, len(left.name), len(right.name), *shape])
    score = _mean(left.scale)

    def found() -> Limits | None:
        ours, theirs = _normal(rng, shape, 2)
        theirs = np.where(rng.random(shape.items) < alike, ours, theirs)
        columns = [{"x": each.quantile(special.ndtr(values))} for each, values in ((left, ours), (right, theirs))]
        moved = score.influence(columns[0]) - score.influence(columns[1])
        return difference(score, *columns, [group(moved, [codes(shape)])], 0, RESAMPLES).limits

    return _mean_coverage(found, left.mean - right.mean)


def _mean_coverage(draw_limits: Callable[[], Limits | None], truth: float) -> float:
    found = [each for each in (draw_limits() for _ in range(MEAN_RUNS)) if each is not None]
    return sum(each.low - 1e-12 <= truth <= each.high + 1e-12 for each in found) / len(found)


def _normal(rng: np.random.Generator, shape: Shape, arms: int) -> np.ndarray:
    """``[A, N]`` standard normal, correlated with 0.5 between arms and with the shape's correlation within clusters."""
    shared = [np.sqrt(0.5) * rng.normal(size=size) for size in (shape.clusters, shape.items)] if arms > 1 else [0.0, 0.0]
    own = np.sqrt(1.0 if arms == 1 else 0.5)
    of_cluster = np.broadcast_to(shared[0] + own * rng.normal(size=(arms, shape.clusters)), (arms, shape.clusters))[:, codes(shape)]
    return np.sqrt(shape.icc) * of_cluster + np.sqrt(1 - shape.icc) * (shared[1] + own * rng.normal(size=(arms, shape.items)))


def _mean(scale: Scale) -> SumScore:
    return SumScore(
        lambda c: np.stack([c["x"], np.ones(len(c["x"]))], axis=1), lambda sums: sums[:, 0] / sums[:, 1], is_linear=True, scale=scale
    )


def false_alarms(shape: Shape, icc: float = 0.5) -> float:
    """How often two arms of one rate, 0.5, differ by the test by clusters (p of at most 0.05)."""
    rng = np.random.default_rng([4, *shape])
    measure = Measure("test", _proportion("format_acc"))
    wrong = 0
    for _ in range(TEST_RUNS):
        left, right = ({"predicted": _predicted(draw(rng, shape, 0.5, icc))} for _ in range(2))
        p = compare(measure, left, right, [codes(shape)], 0, 0).p
        assert p is not None
        wrong += p <= 0.05
    return wrong / TEST_RUNS


def _coverage(name: str, arms: Callable[[], tuple[Columns, Columns]], shape: Shape, truth: float, runs: int) -> float:
    score = _proportion(name)
    covered = 0
    for _ in range(runs):
        left, right = arms()
        found = compared(score, left, right, group(score.influence(left) - score.influence(right), [codes(shape)]))
        covered += found.low - 1e-12 <= truth <= found.high + 1e-12
    return covered / runs


def _truth(name: str, first: float, second: float) -> float:
    match name:
        case "selectivity":
            return first - second
        case "bal_acc":
            return (first + 1 - second) / 2
        case _:
            return 2 * first / (first + second + 1)


def _proportion(name: str) -> Proportion:
    quantity = _FORMAT[name].quantity
    assert not hasattr(quantity, "parts"), "a sum, not a proportion"
    return quantity  # pyright: ignore[reportReturnType]


def _predicted(hits: np.ndarray) -> np.ndarray:
    return np.where(hits, YES, INVALID).astype(np.int8)
