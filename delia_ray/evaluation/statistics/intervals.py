"""Records of a score with its confidence interval and of a paired difference, and the type of the columns they are computed from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

Columns: TypeAlias = Mapping[str, NDArray[Any]]
"""Column name -> ``[N]`` or ``[N, K]`` values, one row for each item of one item set."""


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % confidence interval; all None if there is no item to score."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Number of items; of several item sets, of the smallest."""
    clusters: int | None = None
    """Number of wordings or documents that the items share; ``n`` if each item is a cluster by itself."""
    effective_n: float | None = None
    """Effective sample size: the number of independent items with the same sampling variance."""
    icc: float | None = None
    """Intraclass correlation; None if no two items share a cluster, or all items are equal."""
    note: str | None = None
    """Why there is no interval, if there is none."""


@dataclass(frozen=True)
class PairedDifference:
    """Left minus right on the same items or seeds, with its 95 % confidence interval, two-sided p value and relative gain.

    All None if there is nothing to compare.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None = None
    """``p`` after Holm's correction over the arms that are compared with the same one (``multiplicity``); None before the correction."""
    gain_percent: float | None = None
    """Relative gain 100 (left - right) / right (docs/method.md, T1); None if right is not above 0."""
    gain_low: float | None = None
    gain_high: float | None = None
    """The interval of the gain; None if right is not above 0 in every resample, and for rates."""
    clusters: int | None = None
    effective_n: float | None = None
    icc: float | None = None
    """Intraclass correlation of the items' contributions to the difference; these three as for an ``Interval``."""
    mde: float | None = None
    """Minimum detectable effect: the true difference that is found with a power of 80 % (two-sided, 5 %)."""
    margin: float | None = None
    """Equivalence margin of the metric (``score.margins``)."""
    note: str | None = None
    """Why there is no interval, if there is none."""
