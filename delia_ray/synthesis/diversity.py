"""How diverse a pool of texts is. Each number is of samples of one size, so that pools of different sizes can be compared."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from delia_ray.records import keyed_int
from delia_ray.synthesis.language import language_counts
from delia_ray.synthesis.lexical import compression_ratio, distinct, entropy, grams_of, opening, self_bleu
from delia_ray.synthesis.spread import mean_distance, nearest_cosines, unit_rows, vendi
from delia_ray.words import word_count, words_of

COLUMNS = ("queries", "answers")
SAMPLE_TEXTS = 200
SAMPLE_VECTORS = 100
"""Fewer, since embedding costs more: of as many texts as are embedded by default, samples still differ."""
_SAMPLES = 40
_MIDDLE = (0.025, 0.5, 0.975)
_QUANTILES = (0.05, 0.5, 0.95)
_BINS = 20
_COMMONEST = 10


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Measure(_Record):
    """Median over samples of the pool, and the range of the middle 95 % of them."""

    value: float
    low: float
    high: float


class Histogram(_Record):
    """Counts of values; the last bin also holds what lies above it."""

    edges: list[float]
    """One more than there are counts."""
    counts: list[int]


class Column(_Record):
    """The queries or the answers of a pool."""

    texts: int
    """How many were read, at most 5,000."""
    sample_texts: int
    """Texts of each sample behind a ``Measure``."""
    embedded_texts: int
    """How many became vectors; 0 without embeddings."""
    sample_vectors: int
    """Vectors of each sample behind ``vendi`` and ``mean_distance``."""
    words: tuple[float, float, float]
    """5th, 50th and 95th percentile of a text's words."""
    measures: dict[str, Measure]
    """``distinct_1`` to ``distinct_3``, ``self_bleu``, ``compression_ratio``, ``opening_entropy``; with embeddings ``vendi`` and
    ``mean_distance``."""
    lengths: dict[str, Histogram]
    """``words`` of a text and ``tokens``: of an answer as the model wrote it, of a query with the turns around it."""
    languages: dict[str, int]
    """ISO 639 code -> texts."""
    openings: dict[str, int]
    """The commonest first two words -> texts."""
    nearest: Histogram | None
    """Cosine of each embedded text with the one most like it."""


class Topics(_Record):
    """What the exchanges were asked under."""

    entropy: Measure
    """Bits; log2 of the number of topics where all are equally frequent."""
    counts: dict[str, int]
    """All topics, the commonest first."""


class Diversity(_Record):
    """``diversity.json``."""

    exchanges: int
    """The pool's; what is described is of at most 5,000 of them."""
    topics: Topics
    queries: Column
    answers: Column


def describe_topics(topics: Sequence[str], seed: int) -> Topics:
    """The topics of one or more exchanges."""
    found = over_samples(len(topics), SAMPLE_TEXTS, seed, lambda sample: entropy(topics[i] for i in sample))
    return Topics(entropy=found, counts=dict(Counter(topics).most_common()))


def describe_texts(texts: Sequence[str], tokens: Sequence[int], seed: int) -> Column:
    """One or more texts, of ``tokens`` each. Samples of up to 200 are drawn without replacement; in a pool that is no larger, all
    samples are the pool itself and the intervals are points."""
    words = [words_of(text) for text in texts]
    grams = grams_of(words)
    openings = [opening(text) for text in texts]
    scores: dict[str, Callable[[Sequence[int]], float]] = {
        **{f"distinct_{n}": lambda sample, n=n: distinct(grams[n - 1], sample) for n in (1, 2, 3)},
        "self_bleu": lambda sample: self_bleu(grams, sample),
        "compression_ratio": lambda sample: compression_ratio(texts[i] for i in sample),
        "opening_entropy": lambda sample: entropy(openings[i] for i in sample),
    }
    lengths = np.array([word_count(each) for each in words])
    low, median, high = np.quantile(lengths, _QUANTILES).tolist()
    return Column(
        texts=len(texts),
        sample_texts=min(len(texts), SAMPLE_TEXTS),
        embedded_texts=0,
        sample_vectors=0,
        words=(low, median, high),
        measures={name: over_samples(len(texts), SAMPLE_TEXTS, seed, score) for name, score in scores.items()},
        lengths={"words": length_histogram(lengths), "tokens": length_histogram(tokens)},
        languages=language_counts(texts),
        openings=dict(Counter(openings).most_common(_COMMONEST)),
        nearest=None,
    )


def with_vectors(column: Column, vectors_ND: NDArray[np.floating], seed: int) -> Column:
    """``column`` with what the vectors of one or more of its texts say, in samples of up to 100."""
    unit_ND = unit_rows(vectors_ND)
    count = len(unit_ND)
    scores = {"vendi": vendi, "mean_distance": mean_distance}
    found = {
        name: over_samples(count, SAMPLE_VECTORS, seed, lambda sample, of=of: of(unit_ND[list(sample)])) for name, of in scores.items()
    }
    counts, edges = np.histogram(nearest_cosines(unit_ND).clip(0, 1), bins=_BINS, range=(0, 1))
    changes = {
        "embedded_texts": count,
        "sample_vectors": min(count, SAMPLE_VECTORS),
        "measures": column.measures | found,
        "nearest": Histogram(edges=edges.round(6).tolist(), counts=counts.tolist()),
    }
    return column.model_copy(update=changes)


def over_samples(count: int, most: int, seed: int, score: Callable[[Sequence[int]], float]) -> Measure:
    """``score`` of 40 samples of up to ``most`` of ``count`` places."""
    size = min(count, most)
    # All samples of a pool that is no larger are the same.
    values = [score(_sample(count, size, seed, number)) for number in range(1 if size == count else _SAMPLES)]
    low, value, high = np.quantile(values, _MIDDLE).tolist()
    return Measure(value=value, low=low, high=high)


def length_histogram(lengths: ArrayLike) -> Histogram:
    """Up to 20 bins of whole numbers from 0 to the 99th percentile; what is longer counts in the last."""
    values = np.asarray(lengths)
    width = max(1, int(np.ceil((np.quantile(values, 0.99) + 1) / _BINS)))
    edges = np.arange(0, int(np.quantile(values, 0.99)) + width + 1, width)
    counts, _ = np.histogram(values.clip(max=edges[-1] - 1), bins=edges)
    return Histogram(edges=edges.astype(float).tolist(), counts=counts.tolist())


def _sample(count: int, size: int, seed: int, number: int) -> list[int]:
    """``size`` of ``count`` places; all in order where that is all of them, since the order of texts changes how they deflate."""
    if size == count:
        return list(range(count))
    generator = np.random.default_rng(keyed_int(seed, "diversity", str(number)))
    return generator.choice(count, size, replace=False).tolist()
