"""Distances between mean hidden states, with intervals over the carriers they are means of (METHOD 5).

Shape legend: C carriers, D dimensions, K layers, R resamples, W words.

Means of resampled carriers need no states, only their inner products: with weights w (how often a carrier was drawn, over C),
<mean_a, mean_b> = w' G w for G = A B', so an interval costs the same in any number of dimensions.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from delia_ray.evaluation.clusters import single
from delia_ray.evaluation.estimation import estimate
from delia_ray.evaluation.measures import Measure
from delia_ray.evaluation.sums import POSITIVE, Scale, SumScore
from delia_ray.probing.token_schema import Band, Distances

Floats = NDArray[np.float64]
_DIGITS = 6
_COSINES: Scale = (-np.inf, 1.0)
"""Open below, so that a layer where no carrier changes anything has no interval, and not one over all cosines."""


class _Grams(NamedTuple):
    """Inner products of two words' states at one layer, each [C, C]."""

    token_token: Floats
    word_word: Floats
    token_word: Floats


def pairwise_scale(words_WKD: NDArray[np.floating]) -> Floats:
    """[K] mean Euclidean distance of two different words, over all pairs."""
    above = np.triu_indices(len(words_WKD), k=1)
    layers = np.moveaxis(words_WKD.astype(np.float64), 1, 0)
    return np.array([_all_distances(at_layer)[above].mean() for at_layer in layers])


def _all_distances(words_WD: Floats) -> Floats:
    squares_W = (words_WD**2).sum(-1)
    return np.sqrt(np.maximum(squares_W[:, None] + squares_W[None] - 2 * words_WD @ words_WD.T, 0))


def cosines(token_KD: NDArray[np.floating], words_WKD: NDArray[np.floating]) -> Floats:
    """[W, K] cosine of the token with each word."""
    token, words = token_KD.astype(np.float64), words_WKD.astype(np.float64)
    return (words * token).sum(-1) / (np.linalg.norm(words, axis=-1) * np.linalg.norm(token, axis=-1))


def distances(
    token_CKD: NDArray[np.floating],
    concept_CKD: NDArray[np.floating],
    words_WKD: NDArray[np.floating],
    scale_K: Floats,
    seed: int,
    resamples: int,
) -> Distances:
    """How far the token's mean state is from a concept's at every layer.

    Args:
        token_CKD: the token's state in each carrier.
        concept_CKD: the concept's in the same carriers.
        words_WKD: the drawn words' mean states.
        scale_K: ``pairwise_scale`` of those.
        seed: of the bootstrap.
        resamples: of the carriers.
    """
    layers = [_grams(token_CKD[:, layer], concept_CKD[:, layer]) for layer in range(len(scale_K))]
    euclidean = _band(_euclidean, POSITIVE, layers, seed, resamples)
    token_KD, concept_KD = (states.astype(np.float64).mean(0) for states in (token_CKD, concept_CKD))
    own_K = np.linalg.norm(token_KD - concept_KD, axis=-1)
    others_WK = np.linalg.norm(words_WKD.astype(np.float64) - token_KD, axis=-1)
    return Distances(
        cosine=_band(_cosine, _COSINES, layers, seed, resamples),
        euclidean=euclidean,
        normalised=Band(**{end: _rounded(np.array(values) / scale_K) for end, values in euclidean}),
        further=_rounded((others_WK > own_K).mean(0)),
    )


def _grams(token_CD: NDArray[np.floating], word_CD: NDArray[np.floating]) -> _Grams:
    token, word = token_CD.astype(np.float64), word_CD.astype(np.float64)
    return _Grams(token @ token.T, word @ word.T, token @ word.T)


Distance = Callable[[Floats, _Grams], Floats]
"""From carriers' weights ``[R, C]`` to ``[R]``."""


def _cosine(weights_RC: Floats, grams: _Grams) -> Floats:
    token, word, both = (_inner(weights_RC, gram) for gram in grams)
    return both / np.sqrt(token * word)


def _euclidean(weights_RC: Floats, grams: _Grams) -> Floats:
    token, word, both = (_inner(weights_RC, gram) for gram in grams)
    return np.sqrt(np.maximum(token + word - 2 * both, 0))


def _inner(weights_RC: Floats, gram_CC: Floats) -> Floats:
    return ((weights_RC @ gram_CC) * weights_RC).sum(-1)


def _band(distance: Distance, scale: Scale, layers: list[_Grams], seed: int, resamples: int) -> Band:
    found = [_interval(distance, scale, grams, seed, resamples) for grams in layers]
    value, low, high = np.array(found).T
    return Band(value=_rounded(value), low=_rounded(low), high=_rounded(high))


def _interval(distance: Distance, scale: Scale, grams: _Grams, seed: int, resamples: int) -> tuple[float, float, float]:
    """A sum over carriers counts how often each was drawn."""
    carriers = len(grams.token_token)
    measure = SumScore(
        lambda c: c["is_carrier"],
        lambda counts_RC: distance(counts_RC / counts_RC.sum(-1, keepdims=True), grams),
        is_linear=False,
        scale=scale,
    )
    found = estimate(Measure("", measure), {"is_carrier": np.eye(carriers)}, [single(carriers)], seed, resamples)
    assert found.value is not None, "there are carriers"
    # No interval is left where no carrier changes anything: in the embedding layer the value is exact.
    return found.value, found.value if found.low is None else found.low, found.value if found.high is None else found.high


def _rounded(values: NDArray[np.floating]) -> list[float]:
    return np.round(values, _DIGITS).tolist()
