"""Which items hang together, how alike such items are, and what that leaves of their number.

Items that share a wording or a document are a cluster: they succeed and fail together more often than others do. Whatever is said of
a score holds for other wordings and other documents only if these are the units.

Shape legend: N items, G clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
MIN_CLUSTERS = 6
"""Fewer give no interval and no test: the signs of five clusters can all be alike by chance with 2 / 2**5 = 0.0625, above 0.05."""

Codes: TypeAlias = NDArray[np.int64]
"""``[N]`` which cluster each item is in, counted from 0 without a gap."""
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Grouping:
    """How a score's items are clustered, and what follows for it."""

    codes: Codes
    clusters: int
    icc: float | None
    """Intraclass correlation; null where no two items share a cluster, or all items are alike."""
    design_effect: float
    """How many times larger the sampling variance is than that of as many independent items, at least 1."""

    @property
    def items(self) -> int:
        """How many there are."""
        return len(self.codes)

    @property
    def effective_n(self) -> float:
        """As many independent items would say as much."""
        return self.items / self.design_effect

    @property
    def is_single(self) -> bool:
        """Whether every item is a cluster of its own."""
        return self.clusters == self.items

    @property
    def has_too_few(self) -> bool:
        """Whether items share so few clusters that no honest statement beyond them can be made."""
        return not self.is_single and self.clusters < MIN_CLUSTERS

    @property
    def critical(self) -> float:
        """How many standard errors a 95 % interval reaches: Student's t on the clusters, the normal's 1.96 for single items."""
        return _critical(None if self.is_single else self.clusters - 1)


def single(items: int) -> Codes:
    """Every item a cluster of its own."""
    return np.arange(items)


def codes_of(names: Sequence[str | None]) -> Codes:
    """Items with one name are a cluster; an item without a name is one of its own."""
    known: dict[str | tuple[int], int] = {}
    return np.array([known.setdefault((place,) if name is None else name, len(known)) for place, name in enumerate(names)], dtype=np.int64)


def cluster_sums(values_N: NDArray[Any], codes: Codes) -> NDArray[Any]:
    """``[G]`` or ``[G, K]``: the sum of ``[N]`` or ``[N, K]`` values over each cluster."""
    if values_N.ndim == 1:
        return np.bincount(codes, weights=values_N)
    return np.stack([np.bincount(codes, weights=column) for column in values_N.T], axis=1)


def intraclass_correlation(values_N: Floats, codes: Codes) -> float | None:
    """The one-way analysis of variance's estimate: (MSB - MSW) / (MSB + (n0 - 1) MSW), with n0 for unequal sizes (Donner 1986)."""
    sizes_G = np.bincount(codes)
    items, clusters = len(values_N), len(sizes_G)
    if clusters in (1, items):
        return None
    means_G = cluster_sums(values_N, codes) / sizes_G
    between = float((sizes_G * (means_G - values_N.mean()) ** 2).sum() / (clusters - 1))
    within = float(((values_N - means_G[codes]) ** 2).sum() / (items - clusters))
    typical = (items - (sizes_G**2).sum() / items) / (clusters - 1)
    total = between + (typical - 1) * within
    return float((between - within) / total) if total > 1e-12 else None


def group(influence_N: Floats, groupings: Sequence[Codes]) -> Grouping:
    """The least favourable of several ways to cluster the same items, such as by wording and by document.

    Where all items are alike there is nothing to estimate the correlation from, and each cluster counts as no more than one item.

    Args:
        influence_N: how much each item moves the score.
        groupings: at least one.
    """
    return max((_grouping(influence_N, codes) for codes in groupings), key=_severity)


def _grouping(influence_N: Floats, codes: Codes) -> Grouping:
    sizes_G = np.bincount(codes)
    icc = intraclass_correlation(influence_N, codes)
    mean_size = float((sizes_G**2).sum() / len(codes))  # of the cluster that an item is in
    return Grouping(codes, len(sizes_G), icc, 1 + (mean_size - 1) * (1.0 if icc is None else max(icc, 0.0)))


@cache
def _critical(degrees: int | None) -> float:
    from scipy import special  # noqa: PLC0415  a tenth of a second, and configs must load at once

    upper = (1 + LEVEL) / 2
    return float(special.ndtri(upper) if degrees is None else special.stdtrit(degrees, upper))


def _severity(grouping: Grouping) -> tuple[bool, float]:
    return grouping.has_too_few, 0.0 if grouping.has_too_few else grouping.design_effect * grouping.critical**2
