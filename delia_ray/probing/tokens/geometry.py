"""Distances between mean hidden states, with intervals over the carriers (docs/method.md, What a token means).

Shape legend: C carriers, D dimensions, K layers, R resamples, W words.

Means over resampled carriers need no states, only their inner products: with weights w (how often a carrier was sampled, divided by C),
<mean_a, mean_b> = w' G w for G = A B'. So an interval costs the same in any number of dimensions.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from delia_ray.evaluation.metrics.definitions import MetricDefinition
from delia_ray.evaluation.statistics.clusters import assign_singletons
from delia_ray.evaluation.statistics.estimation import estimate_interval
from delia_ray.evaluation.statistics.sums import NON_NEGATIVE, Bounds, SumScore
from delia_ray.probing.tokens.schema import Band, Distances

Floats = NDArray[np.float64]
_DIGITS = 6
_COSINES: Bounds = (-np.inf, 1.0)
"""Open below, so that a layer where no carrier changes anything has no interval, rather than one over all cosines."""


class _GramMatrices(NamedTuple):
    """Inner products of the states of the token and of a word at one layer, each [C, C]."""

    token_token: Floats
    word_word: Floats
    token_word: Floats


def mean_pairwise_distance(words_WKD: NDArray[np.floating]) -> Floats:
    """Compute the mean Euclidean distance [K] of two different words, over all pairs."""
    upper_triangle = np.triu_indices(len(words_WKD), k=1)
    layers = np.moveaxis(words_WKD.astype(np.float64), 1, 0)
    return np.array([_pairwise_distances(words_WD)[upper_triangle].mean() for words_WD in layers])


def _pairwise_distances(words_WD: Floats) -> Floats:
    squares_W = (words_WD**2).sum(-1)
    return np.sqrt(np.maximum(squares_W[:, None] + squares_W[None] - 2 * words_WD @ words_WD.T, 0))


def cosines(token_KD: NDArray[np.floating], words_WKD: NDArray[np.floating]) -> Floats:
    """Compute the cosine [W, K] of the token with each word."""
    token, words = token_KD.astype(np.float64), words_WKD.astype(np.float64)
    return (words * token).sum(-1) / (np.linalg.norm(words, axis=-1) * np.linalg.norm(token, axis=-1))


def measure_distances(
    token_CKD: NDArray[np.floating],
    concept_CKD: NDArray[np.floating],
    words_WKD: NDArray[np.floating],
    scale_K: Floats,
    seed: int,
    resamples: int,
) -> Distances:
    """Measure the distances of the token's mean state from a concept's at every layer.

    Args:
        token_CKD: the token's state in each carrier.
        concept_CKD: the concept's state in the same carriers.
        words_WKD: mean states of the sampled words.
        scale_K: ``mean_pairwise_distance`` of those.
        seed: seed of the bootstrap.
        resamples: number of resamples of the carriers.
    """
    layers = [_compute_grams(token_CKD[:, layer], concept_CKD[:, layer]) for layer in range(len(scale_K))]
    euclidean = _estimate_band(_euclidean, NON_NEGATIVE, layers, seed, resamples)
    token_KD, concept_KD = (states.astype(np.float64).mean(0) for states in (token_CKD, concept_CKD))
    concept_distance_K = np.linalg.norm(token_KD - concept_KD, axis=-1)
    word_distances_WK = np.linalg.norm(words_WKD.astype(np.float64) - token_KD, axis=-1)
    return Distances(
        cosine=_estimate_band(_cosine, _COSINES, layers, seed, resamples),
        euclidean=euclidean,
        normalized=Band(**{end: _round(np.array(values) / scale_K) for end, values in euclidean}),
        further=_round((word_distances_WK > concept_distance_K).mean(0)),
    )


def _compute_grams(token_CD: NDArray[np.floating], word_CD: NDArray[np.floating]) -> _GramMatrices:
    token, word = token_CD.astype(np.float64), word_CD.astype(np.float64)
    return _GramMatrices(token @ token.T, word @ word.T, token @ word.T)


Distance = Callable[[Floats, _GramMatrices], Floats]
"""Weights of the carriers [R, C] and Gram matrices -> distances [R]."""


def _cosine(weights_RC: Floats, grams: _GramMatrices) -> Floats:
    token, word, both = (_inner_product(weights_RC, gram) for gram in grams)
    return both / np.sqrt(token * word)


def _euclidean(weights_RC: Floats, grams: _GramMatrices) -> Floats:
    token, word, both = (_inner_product(weights_RC, gram) for gram in grams)
    return np.sqrt(np.maximum(token + word - 2 * both, 0))


def _inner_product(weights_RC: Floats, gram_CC: Floats) -> Floats:
    return ((weights_RC @ gram_CC) * weights_RC).sum(-1)


def _estimate_band(distance: Distance, bounds: Bounds, layers: list[_GramMatrices], seed: int, resamples: int) -> Band:
    intervals = [_estimate_interval(distance, bounds, grams, seed, resamples) for grams in layers]
    value, low, high = np.array(intervals).T
    return Band(value=_round(value), low=_round(low), high=_round(high))


def _estimate_interval(distance: Distance, bounds: Bounds, grams: _GramMatrices, seed: int, resamples: int) -> tuple[float, float, float]:
    """Estimate a distance: value, low end, high end. A sum over resampled carriers counts how often each was sampled."""
    carriers = len(grams.token_token)
    measure = SumScore(
        lambda c: c["is_carrier"],
        lambda counts_RC: distance(counts_RC / counts_RC.sum(-1, keepdims=True), grams),
        is_linear=False,
        bounds=bounds,
    )
    interval = estimate_interval(
        MetricDefinition("", measure), {"is_carrier": np.eye(carriers)}, [assign_singletons(carriers)], seed, resamples
    )
    value = interval.value
    assert value is not None, "there are carriers"
    # Where no carrier changes anything there is no interval: in the embedding layer the value is exact.
    return value, value if interval.low is None else interval.low, value if interval.high is None else interval.high


def _round(values: NDArray[np.floating]) -> list[float]:
    return np.round(values, _DIGITS).tolist()
