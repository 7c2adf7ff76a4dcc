"""Clusters of items: intraclass correlation, design effect and effective sample size.

Items that share a wording or a document form a cluster: they succeed and fail together more often than other items do. An interval
generalizes to other wordings and other documents only if these are its sampling units.

Shape legend: N items, G clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

CONFIDENCE_LEVEL = 0.95
MIN_CLUSTERS = 6
"""Fewer clusters give no interval and no test: the signs of five can all agree by chance with probability 2 / 2**5 = 0.0625 > 0.05."""

ClusterCodes: TypeAlias = NDArray[np.int64]
"""``[N]`` cluster of each item, numbered from 0 without gaps."""
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Grouping:
    """The items of a statistic in clusters, with their intraclass correlation and design effect."""

    codes: ClusterCodes
    clusters: int
    """Number of clusters."""
    icc: float | None
    """Intraclass correlation; None if no two items share a cluster, or all items are equal."""
    design_effect: float
    """The sampling variance divided by that of as many independent items, at least 1."""

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.codes)

    @property
    def effective_n(self) -> float:
        """Effective sample size: the number of independent items with the same sampling variance."""
        return self.items / self.design_effect

    @property
    def is_singleton(self) -> bool:
        """Whether every item is a cluster by itself."""
        return self.clusters == self.items

    @property
    def has_too_few_clusters(self) -> bool:
        """Whether items share so few clusters that there is no valid interval for other clusters."""
        return not self.is_singleton and self.clusters < MIN_CLUSTERS

    @property
    def critical_value(self) -> float:
        """Critical value of a 95 % interval: of Student's t with G - 1 degrees of freedom, for single items the normal's 1.96."""
        return _critical_value(None if self.is_singleton else self.clusters - 1)


def assign_singletons(items: int) -> ClusterCodes:
    """Assign each of ``items`` items to a cluster by itself."""
    return np.arange(items)


def assign_clusters(names: Sequence[str | None]) -> ClusterCodes:
    """Assign items with the same name to one cluster; an item without a name is a cluster by itself."""
    codes: dict[str | tuple[int], int] = {}
    keys = ((index,) if name is None else name for index, name in enumerate(names))
    return np.array([codes.setdefault(key, len(codes)) for key in keys], dtype=np.int64)


def cluster_sums(values_N: NDArray[Any], codes: ClusterCodes) -> NDArray[Any]:
    """``[G]`` or ``[G, K]`` sums over each cluster of ``[N]`` or ``[N, K]`` values."""
    if values_N.ndim == 1:
        return np.bincount(codes, weights=values_N)
    return np.stack([np.bincount(codes, weights=column) for column in values_N.T], axis=1)


def intraclass_correlation(values_N: Floats, codes: ClusterCodes) -> float | None:
    """Intraclass correlation by one-way analysis of variance: (MSB - MSW) / (MSB + (n0 - 1) MSW), n0 for unequal sizes (Donner 1986)."""
    sizes_G = np.bincount(codes)
    items, clusters = len(values_N), len(sizes_G)
    if clusters in (1, items):
        return None
    means_G = cluster_sums(values_N, codes) / sizes_G
    msb = float((sizes_G * (means_G - values_N.mean()) ** 2).sum() / (clusters - 1))
    msw = float(((values_N - means_G[codes]) ** 2).sum() / (items - clusters))
    n0 = (items - (sizes_G**2).sum() / items) / (clusters - 1)
    total = msb + (n0 - 1) * msw
    return float((msb - msw) / total) if total > 1e-12 else None


def select_grouping(influence_N: Floats, groupings: Sequence[ClusterCodes]) -> Grouping:
    """Select the least favorable of several groupings of the same items, such as by wording and by document.

    If all items are equal, their correlation cannot be estimated, and each cluster counts as one item.

    Args:
        influence_N: the statistic's empirical influence function at each item.
        groupings: the cluster of each item; at least one grouping.
    """
    return max((_build_grouping(influence_N, codes) for codes in groupings), key=_severity)


def _build_grouping(influence_N: Floats, codes: ClusterCodes) -> Grouping:
    sizes_G = np.bincount(codes)
    icc = intraclass_correlation(influence_N, codes)
    mean_size = float((sizes_G**2).sum() / len(codes))  # size of an item's cluster, averaged over items
    return Grouping(codes, len(sizes_G), icc, 1 + (mean_size - 1) * (1.0 if icc is None else max(icc, 0.0)))


@cache
def _critical_value(degrees_of_freedom: int | None) -> float:
    from scipy import special  # noqa: PLC0415  a tenth of a second, and configs must load at once

    upper = (1 + CONFIDENCE_LEVEL) / 2
    return float(special.ndtri(upper) if degrees_of_freedom is None else special.stdtrit(degrees_of_freedom, upper))


def _severity(grouping: Grouping) -> tuple[bool, float]:
    too_few = grouping.has_too_few_clusters
    return too_few, 0.0 if too_few else grouping.design_effect * grouping.critical_value**2
