"""Estimators of norms, cosines and projections from inner products of per-row gradients, each with a jackknife interval.

Every statistic is a function of weights of the rows. So leaving a row out is a weight of 0, and an exact expectation has
probabilities as weights.

Legend: N rows, R sets of weights, K vectors of a basis, k top eigenvectors.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.probing.predictions.products import Floats

_MIN_ROWS = 3
"""With two rows, leaving one out does not show how rows vary."""
Statistic: TypeAlias = Callable[[Floats], Floats]
"""Weights of the rows [R, N] -> values [R]."""


def jackknife(statistic: Statistic, sizes: Sequence[int], level: float = 0.95) -> Interval:
    """Compute ``statistic`` of all rows, with its leave-one-out jackknife interval (Efron and Tibshirani 1993, chapter 11).

    It is not a bootstrap: a row that is sampled twice has an inner product with itself, which would inflate every norm.

    Args:
        statistic: what to estimate.
        sizes: rows of each independent sample; their weights follow each other. Rows that belong together (one query, two answers)
            are one row of one sample.
        level: confidence level.
    """
    from scipy import special  # noqa: PLC0415  a tenth of a second to import

    with np.errstate(divide="ignore", invalid="ignore"):
        return _jackknife(statistic, sizes, lambda degrees: float(special.stdtrit(degrees, (1 + level) / 2)))


def _jackknife(statistic: Statistic, sizes: Sequence[int], critical_value: Callable[[int], float]) -> Interval:
    value = float(statistic(np.ones((1, sum(sizes))))[0])
    if not np.isfinite(value):
        return Interval(None, None, None, min(sizes), note="not defined: the rows are too few, or a gradient is 0")
    if min(sizes) < _MIN_ROWS:
        return Interval(value, None, None, min(sizes), note=f"{min(sizes)} rows are too few for an interval (at least {_MIN_ROWS})")
    variance, start = 0.0, 0
    for size in sizes:
        leave_one_out_NN = np.ones((size, sum(sizes)))
        leave_one_out_NN[np.arange(size), start + np.arange(size)] = 0.0
        values_N = statistic(leave_one_out_NN)
        variance += (size - 1) / size * float(((values_N - values_N.mean()) ** 2).sum())
        start += size
    half_width = critical_value(min(sizes) - 1) * variance**0.5
    if not np.isfinite(half_width):
        return Interval(value, None, None, min(sizes), note="it is not defined once one of the rows is left out")
    return Interval(value, value - half_width, value + half_width, min(sizes))


def squared_norm_of_sum(weights_RN: Floats, gram_NN: Floats) -> Floats:
    """Compute |sum_i w_i g_i|^2 [R]."""
    return np.einsum("rn,nm,rm->r", weights_RN, gram_NN, weights_RN, optimize=True)


def mean_norm(weights_RN: Floats, gram_NN: Floats, tokens_N: Floats) -> Floats:
    """Compute the norm [R] of the mean gradient per token, |sum_i g_i| / sum_i T_i.

    It estimates the norm of the expectation plus the noise of sampling so few rows.
    """
    return np.sqrt(np.maximum(squared_norm_of_sum(weights_RN, gram_NN), 0.0)) / (weights_RN @ tokens_N)


def unbiased_squared_norm(weights_RN: Floats, gram_NN: Floats, tokens_N: Floats) -> Floats:
    """Estimate |E g|^2 [R] without sampling noise: the mean of g_i . g_j over pairs of different rows, per token squared.

    The numerator is unbiased (a U-statistic, Hoeffding 1948). So the estimate may be below 0 where the expectation is 0.
    """
    own_R = weights_RN**2 @ np.diag(gram_NN)
    pairs_R = weights_RN.sum(-1) ** 2 - (weights_RN**2).sum(-1)
    length_R = (weights_RN @ tokens_N) / weights_RN.sum(-1)
    return (squared_norm_of_sum(weights_RN, gram_NN) - own_R) / pairs_R / length_R**2


def clip_at_zero(estimate: Interval) -> Interval:
    """Replace negative ends of an estimate by 0, for a quantity that cannot be negative."""
    value, low, high = (None if end is None else max(end, 0.0) for end in (estimate.value, estimate.low, estimate.high))
    return replace(estimate, value=value, low=low, high=high)


def square_root(square: Interval) -> Interval:
    """Compute the square root of an estimated square; negative ends become 0."""
    clipped = clip_at_zero(square)
    value, low, high = (None if end is None else end**0.5 for end in (clipped.value, clipped.low, clipped.high))
    return replace(clipped, value=value, low=low, high=high)


def cosine(weights_RN: Floats, gram_NN: Floats, dots_N: Floats, norm: float) -> Floats:
    """Compute the cosine [R] of sum_i g_i with a fixed vector of length ``norm``, from the inner products of each g_i with it."""
    return (weights_RN @ dots_N) / np.sqrt(squared_norm_of_sum(weights_RN, gram_NN)) / norm


def cosine_of_sums(weights_RM: Floats, gram_MM: Floats, split: int) -> Floats:
    """Compute the cosine [R] of the sum over the first ``split`` rows with the sum over the others."""
    first, second = weights_RM[:, :split], weights_RM[:, split:]
    dots_R = np.einsum("rn,nm,rm->r", first, gram_MM[:split, split:], second, optimize=True)
    return dots_R / np.sqrt(squared_norm_of_sum(first, gram_MM[:split, :split]) * squared_norm_of_sum(second, gram_MM[split:, split:]))


def restoring_force(weights_RN: Floats, dots_N: Floats, tokens_N: Floats, norm: float) -> Floats:
    """Compute the restoring force [R]: the part of -grad L_D, per token, that points back along a step down a vector of length ``norm``.

    It is -grad L_D . g_T / |g_T|, positive where the diverse rows resist. To first order in the step's size it is eta g_T' F g_T / |g_T|.
    """
    return (weights_RN @ dots_N) / (weights_RN @ tokens_N) / -norm


def quadratic_form(weights_RN: Floats, forms_N: Floats, tokens_N: Floats) -> Floats:
    """Compute v' F v [R] from each row's term of it."""
    return (weights_RN @ forms_N) / (weights_RN @ tokens_N)


def eigenvalues(weights_RN: Floats, rows_NKK: Floats, tokens_N: Floats, index: int) -> Floats:
    """Compute the ``index``-th largest eigenvalue [R] of F within the basis, from 0."""
    return np.asarray(np.linalg.eigvalsh(_sum_fisher(weights_RN, rows_NKK, tokens_N))[:, -1 - index], dtype=np.float64)


def projection_norm(weights_RN: Floats, rows_NKK: Floats, tokens_N: Floats, update_K: Floats, top: int) -> Floats:
    """Compute the norm [R] of an update's projection on the ``top`` eigenvectors of F with the largest eigenvalues.

    Args:
        weights_RN: weights of the rows.
        rows_NKK: each row's term of F within an orthonormal basis.
        tokens_N: tokens of each row.
        update_K: the update's inner products with that basis.
        top: number of eigenvectors.
    """
    vectors_RKk = np.linalg.eigh(_sum_fisher(weights_RN, rows_NKK, tokens_N))[1][:, :, -top:]
    return np.linalg.norm(np.einsum("k,rkj->rj", update_K, vectors_RKk), axis=-1)


def _sum_fisher(weights_RN: Floats, rows_NKK: Floats, tokens_N: Floats) -> Floats:
    """Compute F within the basis [R, K, K] from the rows' terms."""
    return np.einsum("rn,nab->rab", weights_RN, rows_NKK) / (weights_RN @ tokens_N)[:, None, None]
