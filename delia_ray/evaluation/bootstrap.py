"""Percentile intervals and paired differences of any statistic by resampling items, and the records that all intervals come in.

Shape legend: N items of one item set, R resamples.

An *item set* is a mapping of column name -> ``[N]`` values, one for each item. Its columns are resampled together, so
what belongs to one item stays together. A statistic over several item sets (Selectivity, when the plain-words prompts
are other items than the test prompts) takes a sequence of them; each is resampled by itself. Columns of the *same*
items belong in one set: apart, what they share would count as noise twice.

numpy and not ``scipy.stats.bootstrap``: that resamples all samples jointly or all independently, never columns jointly
within sets, so it would have to be given index arrays; it refuses a set of one item; and it has no test of a difference.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Columns: TypeAlias = Mapping[str, NDArray[Any]]
ItemSets: TypeAlias = Columns | Sequence[Columns]
Statistic: TypeAlias = Callable[[Columns], NDArray[np.float64]]
"""From the columns of all item sets by name, each ``[R, N]``, to ``[R]``."""

_CELLS_AT_ONCE = 4_000_000  # bounds the memory of large item sets: about 32 MB of float64


@dataclass(frozen=True)
class Interval:
    """A score with its confidence interval; all None when there was no item to score."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Items; of several item sets, those of the smallest."""
    clusters: int | None = None
    """Wordings or documents that the items share; ``n`` where each item stands alone."""
    effective_n: float | None = None
    """As many independent items would say as much."""
    icc: float | None = None
    """Intraclass correlation; null where no two items share a cluster, or all are alike."""
    note: str | None = None
    """Why there is no interval, where there is none."""


@dataclass(frozen=True)
class Difference:
    """Left minus right, with its confidence interval, two-sided p and relative gain; all None when there was no item to compare."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None = None
    """``p`` after Holm's correction over the arms that are compared with the same one (``multiplicity``); null until that is done."""
    gain_percent: float | None = None
    """100 (left - right) / right (METHOD 4, T1), with its interval; null where right is not above 0."""
    gain_low: float | None = None
    gain_high: float | None = None
    """The interval is null where right is not above 0 in every resample, and for rates."""
    clusters: int | None = None
    effective_n: float | None = None
    icc: float | None = None
    """Of what each item adds to the difference; these three as for an ``Interval``."""
    mde: float | None = None
    """Minimum detectable effect: the true difference that would be found four times out of five (two-sided, 5 %)."""
    margin: float | None = None
    """How small a difference must be to mean nothing (``score.margins``)."""
    note: str | None = None
    """Why there is no interval, where there is none."""


def bootstrap(statistic: Statistic, columns: ItemSets, seed: int, resamples: int = 1000, level: float = 0.95) -> Interval:
    """``statistic`` of ``columns`` with its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    Args:
        statistic: gets every column by name as ``[R, N]`` and reduces the last axis.
        columns: one item set, or several that are resampled independently.
        seed: the same seed, sizes and ``resamples`` draw the same items.
        resamples: how often to draw.
        level: the interval's nominal coverage, between 0 and 1.
    """
    sets = _item_sets(columns)
    smallest = min(_sizes(sets))
    if smallest == 0:
        return Interval(None, None, None, 0)
    drawn_R = np.concatenate([statistic(_take(sets, indices)) for indices in _draws(sets, seed, resamples)])
    low, high = _percentiles(drawn_R, level)
    return Interval(_observed(statistic, sets), low, high, smallest)


def paired_bootstrap(
    statistic: Statistic, left: ItemSets, right: ItemSets, seed: int, resamples: int = 1000, level: float = 0.95
) -> Difference:
    """``statistic(left) - statistic(right)`` of two arms that answered the same items (Koehn 2004).

    Both arms are resampled at the same items. p = 2 min(P(diff <= 0), P(diff >= 0)), at most 1, where a probability
    is (count + 1) / (resamples + 1), so that it is never 0 (Davison and Hinkley 1997, chapter 4).

    Args:
        statistic: see ``bootstrap``.
        left: the item sets of one arm.
        right: those of the other: as many, of the same sizes, with the same items in the same order.
        seed: see ``bootstrap``.
        resamples: how often to draw.
        level: the interval's nominal coverage, between 0 and 1.
    """
    lefts, rights = _item_sets(left), _item_sets(right)
    sizes = _sizes(lefts)
    assert sizes == _sizes(rights), f"the arms do not have the same items: {sizes} and {_sizes(rights)}"
    if min(sizes) == 0:
        return Difference(None, None, None, None)
    draws = [(statistic(_take(lefts, indices)), statistic(_take(rights, indices))) for indices in _draws(lefts, seed, resamples)]
    left_R, right_R = (np.concatenate(drawn) for drawn in zip(*draws, strict=True))
    drawn_R = left_R - right_R
    low, high = _percentiles(drawn_R, level)
    tail = min(np.count_nonzero(drawn_R <= 0), np.count_nonzero(drawn_R >= 0))
    p = min(1.0, 2 * (tail + 1) / (resamples + 1))
    return Difference(_observed(statistic, lefts) - _observed(statistic, rights), low, high, p)


def _item_sets(columns: ItemSets) -> Sequence[Columns]:
    sets = [columns] if isinstance(columns, Mapping) else columns
    names = [name for item_set in sets for name in item_set]
    assert len(names) == len(set(names)), f"two item sets name a column alike: {names}"
    return sets


def _sizes(sets: Sequence[Columns]) -> list[int]:
    sizes: list[int] = []
    for item_set in sets:
        lengths = {column.shape[0] for column in item_set.values()}
        assert len(lengths) == 1, f"the columns {sorted(item_set)} of one item set have {sorted(lengths)} items"
        sizes += lengths
    return sizes


def _draws(sets: Sequence[Columns], seed: int, resamples: int) -> Iterator[list[NDArray[np.int64]]]:
    """Item indices for each item set, ``[r, N]`` for as many resamples r as fit in memory, ``resamples`` in all."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // sum(column.size for item_set in sets for column in item_set.values()))
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        yield [rng.integers(size, size=(rows, size)) for size in _sizes(sets)]


def _take(sets: Sequence[Columns], indices: Sequence[NDArray[np.int64]]) -> Columns:
    return {name: column[index_RN] for item_set, index_RN in zip(sets, indices, strict=True) for name, column in item_set.items()}


def _observed(statistic: Statistic, sets: Sequence[Columns]) -> float:
    return float(statistic(_take(sets, [np.arange(size)[None] for size in _sizes(sets)]))[0])


def _percentiles(drawn_R: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(drawn_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
