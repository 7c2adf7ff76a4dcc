"""Paired permutation tests of the difference of two arms: the arms are exchanged within whole clusters.

Under the null hypothesis that the arms are exchangeable, exchanging them within a cluster only flips the sign of the cluster's
contribution to the difference. All 2^G patterns of signs are then equally likely, whatever the correlation within a cluster: the test
keeps its level with few clusters. For single items that are right or wrong it is McNemar's exact test; for a corpus score, approximate
randomization (Riezler and Maxwell 2005).

Shape legend: G clusters, K sums that a score is computed from, P patterns of signs.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delia_ray.evaluation.statistics.clusters import Floats

_MAX_ENUMERATED_CLUSTERS = 12  # 4096 patterns at most
_RANDOM_PATTERNS = 9_999
_MAX_INTEGER_SUM = 200_000
_PATTERNS_PER_BATCH = 1_000
_TIE_TOLERANCE = 1e-9  # relative to the observed difference: patterns that differ from it only by rounding are ties


def sign_flip_p_value(sums_G: Floats, seed: int) -> float:
    """Two-sided p value of a sign-flip test of the sum of the clusters' contributions to a difference.

    Exact if the contributions are integers or the clusters are few; otherwise from 9,999 random patterns, with the observed one counted
    in (Phipson and Smyth 2010).

    Args:
        sums_G: each cluster's contribution.
        seed: seed of the random patterns.
    """
    magnitudes_G = np.abs(sums_G[sums_G != 0])
    if not magnitudes_G.size:
        return 1.0
    observed = abs(float(sums_G.sum()))
    if np.all(magnitudes_G == magnitudes_G[0]):
        return _mcnemar_p_value(int((sums_G > 0).sum()), int((sums_G < 0).sum()))
    if np.all(magnitudes_G == np.round(magnitudes_G)) and magnitudes_G.sum() <= _MAX_INTEGER_SUM:
        return _exact_integer_p_value(magnitudes_G.astype(np.int64), round(observed))
    return _p_value(lambda signs_PG: signs_PG @ magnitudes_G, len(magnitudes_G), observed, seed)


def permutation_p_value(left_GK: Floats, right_GK: Floats, score: Callable[[NDArray[Any]], Floats], seed: int) -> float:
    """Two-sided p value of ``score(left) - score(right)`` by a paired permutation test that exchanges clusters between the arms.

    Args:
        left_GK: each cluster's sums in one arm.
        right_GK: each cluster's sums in the other arm.
        score: ``[P, K]`` sums to ``[P]`` scores.
        seed: seed of the random patterns, if the patterns are not enumerated.
    """
    differing = np.any(left_GK != right_GK, axis=1)
    exchanged_GK, left_K, right_K = (right_GK - left_GK)[differing], left_GK.sum(axis=0), right_GK.sum(axis=0)
    if not len(exchanged_GK):
        return 1.0

    def differences(signs_PG: Floats) -> Floats:
        exchanged_PK = (signs_PG < 0).astype(np.float64) @ exchanged_GK
        return score(left_K + exchanged_PK) - score(right_K - exchanged_PK)

    observed = abs(float(differences(np.ones((1, len(exchanged_GK))))[0]))
    return _p_value(differences, len(exchanged_GK), observed, seed)


def _mcnemar_p_value(positive: int, negative: int) -> float:
    from scipy import stats  # noqa: PLC0415  half a second

    result: Any = stats.binomtest(positive, positive + negative)
    return float(result.pvalue)


def _exact_integer_p_value(magnitudes_G: NDArray[np.int64], observed: int) -> float:
    """Exact p over all patterns, by convolution: the distribution of the sum of the magnitudes with a plus, one cluster at a time."""
    total = int(magnitudes_G.sum())
    probabilities = np.zeros(total + 1)
    probabilities[0] = 1.0
    for magnitude in magnitudes_G:
        shifted = np.zeros_like(probabilities)
        shifted[magnitude:] = probabilities[:-magnitude]
        probabilities = (probabilities + shifted) / 2
    sums = 2 * np.arange(total + 1) - total
    return min(1.0, float(probabilities[np.abs(sums) >= observed].sum()))


def _p_value(differences: Callable[[Floats], Floats], clusters: int, observed: float, seed: int) -> float:
    threshold = observed * (1 - _TIE_TOLERANCE)
    extreme = sum(int((np.abs(differences(signs_PG)) >= threshold).sum()) for signs_PG in _generate_sign_patterns(clusters, seed))
    return extreme / 2**clusters if clusters <= _MAX_ENUMERATED_CLUSTERS else (extreme + 1) / (_RANDOM_PATTERNS + 1)


def _generate_sign_patterns(clusters: int, seed: int) -> Iterator[Floats]:
    """Yield batches ``[P, G]`` of patterns of +1 and -1: all of them for few clusters, otherwise random ones."""
    if clusters <= _MAX_ENUMERATED_CLUSTERS:
        yield 1 - 2 * ((np.arange(2**clusters)[:, None] >> np.arange(clusters)) & 1).astype(np.float64)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, _RANDOM_PATTERNS, _PATTERNS_PER_BATCH):
        yield 1 - 2 * rng.integers(2, size=(min(_PATTERNS_PER_BATCH, _RANDOM_PATTERNS - start), clusters)).astype(np.float64)
