"""The records that a score's interval and the difference of two arms come in, and the columns that they are computed from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

Columns: TypeAlias = Mapping[str, NDArray[Any]]
"""Column name -> ``[N]`` or ``[N, K]`` values, one row for each item of one set of items."""


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
