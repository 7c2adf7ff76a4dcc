"""Whether two arms differ, by what could have come out had each cluster's answers been dealt to the arms by a coin.

If the arms are alike, exchanging them within a cluster changes nothing but the sign of what that cluster adds to the difference. All
2^G patterns of signs are then equally likely, whatever goes on inside a cluster: the test keeps its level with few clusters. For
single items that are right or wrong it is McNemar's exact test; for a corpus score, approximate randomisation (Riezler and Maxwell 2005).

Shape legend: G clusters, K parts that a score is computed from, P patterns of signs.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delia_ray.evaluation.clusters import Floats

_ENUMERATED = 12  # 4096 patterns at most
_DRAWN = 9_999
_LONGEST_COUNT = 200_000
_AT_ONCE = 1_000
_SAME = 1e-9  # of the observed difference: patterns that only rounding tells apart count as equal


def sign_flip_p(sums_G: Floats, seed: int) -> float:
    """Two-sided p of the sum of what each cluster adds to a difference.

    Exact where the parts are whole numbers or the clusters few, else from 9,999 patterns that ``seed`` draws, the observed one counted
    in (Phipson and Smyth 2010).
    """
    parts_G = np.abs(sums_G[sums_G != 0])
    if not parts_G.size:
        return 1.0
    observed = abs(float(sums_G.sum()))
    if np.all(parts_G == parts_G[0]):
        return _mcnemar(int((sums_G > 0).sum()), int((sums_G < 0).sum()))
    if np.all(parts_G == np.round(parts_G)) and parts_G.sum() <= _LONGEST_COUNT:
        return _counted(parts_G.astype(np.int64), round(observed))
    return _p(lambda signs_PG: signs_PG @ parts_G, len(parts_G), observed, seed)


def swap_p(left_GK: Floats, right_GK: Floats, score: Callable[[NDArray[Any]], Floats], seed: int) -> float:
    """Two-sided p of ``score(left) - score(right)``, where clusters are exchanged between the arms.

    Args:
        left_GK: each cluster's sums in one arm.
        right_GK: those in the other.
        score: ``[P, K]`` sums to ``[P]`` scores.
        seed: of the patterns, where not all are gone through.
    """
    differing = np.any(left_GK != right_GK, axis=1)
    moved_GK, left_K, right_K = (right_GK - left_GK)[differing], left_GK.sum(axis=0), right_GK.sum(axis=0)
    if not len(moved_GK):
        return 1.0

    def differences(signs_PG: Floats) -> Floats:
        swapped_PK = (signs_PG < 0).astype(np.float64) @ moved_GK
        return score(left_K + swapped_PK) - score(right_K - swapped_PK)

    observed = abs(float(differences(np.ones((1, len(moved_GK))))[0]))
    return _p(differences, len(moved_GK), observed, seed)


def _mcnemar(more: int, fewer: int) -> float:
    from scipy import stats  # noqa: PLC0415  half a second

    tested: Any = stats.binomtest(more, more + fewer)
    return float(tested.pvalue)


def _counted(parts_G: NDArray[np.int64], observed: int) -> float:
    """All patterns at once: the chance of every sum of the parts with a plus, one part after the other."""
    total = int(parts_G.sum())
    chances = np.zeros(total + 1)
    chances[0] = 1.0
    for part in parts_G:
        shifted = np.zeros_like(chances)
        shifted[part:] = chances[:-part]
        chances = (chances + shifted) / 2
    sums = 2 * np.arange(total + 1) - total
    return min(1.0, float(chances[np.abs(sums) >= observed].sum()))


def _p(differences: Callable[[Floats], Floats], clusters: int, observed: float, seed: int) -> float:
    least = observed * (1 - _SAME)
    reached = sum(int((np.abs(differences(signs_PG)) >= least).sum()) for signs_PG in _patterns(clusters, seed))
    return reached / 2**clusters if clusters <= _ENUMERATED else (reached + 1) / (_DRAWN + 1)


def _patterns(clusters: int, seed: int) -> Iterator[Floats]:
    if clusters <= _ENUMERATED:
        yield 1 - 2 * ((np.arange(2**clusters)[:, None] >> np.arange(clusters)) & 1).astype(np.float64)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, _DRAWN, _AT_ONCE):
        yield 1 - 2 * rng.integers(2, size=(min(_AT_ONCE, _DRAWN - start), clusters)).astype(np.float64)
