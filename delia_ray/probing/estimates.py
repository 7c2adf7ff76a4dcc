"""From inner products of single rows' gradients to norms, cosines and projections, each with an interval.

Every statistic is a function of weights of the rows, so that leaving a row out is a weight of 0, and exact expectations are
weights that are probabilities.

Legend: N rows, R sets of weights, K vectors of a basis, k top eigenvectors.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.probing.raw import Floats

_FEWEST = 3
"""Rows; of two, each without the other says nothing of how rows vary."""
Statistic: TypeAlias = Callable[[Floats], Floats]
"""From weights of the rows [R, N] to values [R]."""


def jackknife(statistic: Statistic, sizes: Sequence[int], level: float = 0.95) -> Interval:
    """``statistic`` of all rows, with the interval that leaving out each row in turn gives (Efron and Tibshirani 1993, chapter 11).

    Not a bootstrap: a row that is drawn twice has an inner product with itself, which would inflate every norm.

    Args:
        sizes: rows of each independent sample; their weights follow each other. Rows that belong together (one query, two answers)
            are one row of one sample.
    """
    from scipy import special  # noqa: PLC0415  a tenth of a second to import

    with np.errstate(divide="ignore", invalid="ignore"):
        return _jackknife(statistic, sizes, lambda degrees: float(special.stdtrit(degrees, (1 + level) / 2)))


def _jackknife(statistic: Statistic, sizes: Sequence[int], critical: Callable[[int], float]) -> Interval:
    value = float(statistic(np.ones((1, sum(sizes))))[0])
    if not np.isfinite(value):
        return Interval(None, None, None, min(sizes), note="not defined: the rows are too few, or a gradient is 0")
    if min(sizes) < _FEWEST:
        return Interval(value, None, None, min(sizes), note=f"{min(sizes)} rows are too few for an interval (at least {_FEWEST})")
    variance, start = 0.0, 0
    for size in sizes:
        without_NN = np.ones((size, sum(sizes)))
        without_NN[np.arange(size), start + np.arange(size)] = 0.0
        values_N = statistic(without_NN)
        variance += (size - 1) / size * float(((values_N - values_N.mean()) ** 2).sum())
        start += size
    reach = critical(min(sizes) - 1) * variance**0.5
    if not np.isfinite(reach):
        return Interval(value, None, None, min(sizes), note="it is not defined once one of the rows is left out")
    return Interval(value, value - reach, value + reach, min(sizes))


def quadratic(weights_RN: Floats, gram_NN: Floats) -> Floats:
    """[R] |sum_i w_i g_i|^2."""
    return np.einsum("rn,nm,rm->r", weights_RN, gram_NN, weights_RN, optimize=True)


def mean_norm(weights_RN: Floats, gram_NN: Floats, tokens_N: Floats) -> Floats:
    """[R] norm of the mean gradient a token, |sum_i g_i| / sum_i T_i: the expectation's, and what sampling so few rows adds."""
    return np.sqrt(np.maximum(quadratic(weights_RN, gram_NN), 0.0)) / (weights_RN @ tokens_N)


def squared_norm(weights_RN: Floats, gram_NN: Floats, tokens_N: Floats) -> Floats:
    """[R] estimate of |E g|^2 without what sampling adds: the mean of g_i . g_j over pairs of different rows, per token squared.

    Unbiased for the numerator (a U-statistic, Hoeffding 1948), so that it may come out below 0 where the expectation is 0.
    """
    own_R = weights_RN**2 @ np.diag(gram_NN)
    pairs_R = weights_RN.sum(-1) ** 2 - (weights_RN**2).sum(-1)
    length_R = (weights_RN @ tokens_N) / weights_RN.sum(-1)
    return (quadratic(weights_RN, gram_NN) - own_R) / pairs_R / length_R**2


def not_negative(estimate: Interval) -> Interval:
    """An estimate of what cannot be below 0, with 0 for what is."""
    value, low, high = (None if each is None else max(each, 0.0) for each in (estimate.value, estimate.low, estimate.high))
    return replace(estimate, value=value, low=low, high=high)


def root(square: Interval) -> Interval:
    """The square root of an estimated square, with 0 for what is below it."""
    known = not_negative(square)
    value, low, high = (None if each is None else each**0.5 for each in (known.value, known.low, known.high))
    return replace(known, value=value, low=low, high=high)


def cosine(weights_RN: Floats, gram_NN: Floats, dots_N: Floats, norm: float) -> Floats:
    """[R] cosine of sum_i g_i with a fixed vector of length ``norm``, from g_i's inner products with it."""
    return (weights_RN @ dots_N) / np.sqrt(quadratic(weights_RN, gram_NN)) / norm


def cosine_of_means(weights_RM: Floats, gram_MM: Floats, left: int) -> Floats:
    """[R] cosine of the sum over the first ``left`` rows with the sum over the others."""
    ours, theirs = weights_RM[:, :left], weights_RM[:, left:]
    shared_R = np.einsum("rn,nm,rm->r", ours, gram_MM[:left, left:], theirs, optimize=True)
    return shared_R / np.sqrt(quadratic(ours, gram_MM[:left, :left]) * quadratic(theirs, gram_MM[left:, left:]))


def pull(weights_RN: Floats, dots_N: Floats, tokens_N: Floats, norm: float) -> Floats:
    """[R] the part of -grad L_D, a token, that points back: against a step down a vector of length ``norm``.

    -grad L_D . g_T / |g_T|, positive where the diverse rows resist. To first order in the step's size it is eta g_T' F g_T / |g_T|.
    """
    return (weights_RN @ dots_N) / (weights_RN @ tokens_N) / -norm


def form(weights_RN: Floats, forms_N: Floats, tokens_N: Floats) -> Floats:
    """[R] v' F v from each row's share of it."""
    return (weights_RN @ forms_N) / (weights_RN @ tokens_N)


def eigenvalues(weights_RN: Floats, rows_NKK: Floats, tokens_N: Floats, place: int) -> Floats:
    """[R] the ``place``-th largest eigenvalue of F within the basis."""
    return np.asarray(np.linalg.eigvalsh(_within(weights_RN, rows_NKK, tokens_N))[:, -1 - place], dtype=np.float64)


def along(weights_RN: Floats, rows_NKK: Floats, tokens_N: Floats, update_K: Floats, top: int) -> Floats:
    """[R] norm of an update's projection on the ``top`` eigenvectors of F with the largest eigenvalues.

    Args:
        rows_NKK: each row's share of F within an orthonormal basis.
        update_K: the update's inner products with that basis.
    """
    vectors_RKk = np.linalg.eigh(_within(weights_RN, rows_NKK, tokens_N))[1][:, :, -top:]
    return np.linalg.norm(np.einsum("k,rkj->rj", update_K, vectors_RKk), axis=-1)


def _within(weights_RN: Floats, rows_NKK: Floats, tokens_N: Floats) -> Floats:
    return np.einsum("rn,nab->rab", weights_RN, rows_NKK) / (weights_RN @ tokens_N)[:, None, None]
