"""Diversity measures of a pool of exchanges, over samples of a fixed size, so that pools of different sizes can be compared."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from delia_ray.core.records import keyed_int
from delia_ray.core.text.words import count_words, split_words
from delia_ray.synthesis.diversity.embedding import mean_distance, nearest_cosines, normalize_rows, vendi
from delia_ray.synthesis.diversity.language import count_languages
from delia_ray.synthesis.diversity.lexical import compression_ratio, distinct_n, entropy, extract_ngrams, extract_opening, self_bleu

COLUMNS = ("queries", "answers")
SAMPLE_TEXTS = 200
SAMPLE_VECTORS = 100
"""Fewer than ``SAMPLE_TEXTS``, since embedding costs more; samples of the texts that are embedded by default still differ."""
_SAMPLES = 40
_INTERVAL = (0.025, 0.5, 0.975)
_QUANTILES = (0.05, 0.5, 0.95)
_BINS = 20
_TOP_OPENINGS = 10


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SampledMeasure(_Record):
    """A measure's median over samples of the pool, and the range of the middle 95 % of them."""

    value: float
    low: float
    high: float


class Histogram(_Record):
    """Counts of values by bin; larger values count in the last bin."""

    edges: list[float]
    """Edges of the bins, one more than ``counts``."""
    counts: list[int]


class Column(_Record):
    """Diversity of the queries or of the answers of a pool."""

    texts: int
    """Texts that were read, at most 5,000."""
    sample_texts: int
    """Texts of each sample behind a ``SampledMeasure``."""
    embedded_texts: int
    """Texts that were embedded; 0 without embeddings."""
    sample_vectors: int
    """Vectors of each sample behind ``vendi`` and ``mean_distance``."""
    words: tuple[float, float, float]
    """5th, 50th and 95th percentile of the words in a text."""
    measures: dict[str, SampledMeasure]
    """``distinct_1`` to ``distinct_3``, ``self_bleu``, ``compression_ratio``, ``opening_entropy``; with embeddings ``vendi`` and
    ``mean_distance``."""
    lengths: dict[str, Histogram]
    """``words`` and ``tokens`` of a text; an answer's tokens are as generated, a query's include the turns around it."""
    languages: dict[str, int]
    """ISO 639 code -> texts."""
    openings: dict[str, int]
    """The most frequent first two words -> texts."""
    nearest: Histogram | None
    """Cosines of the embedded texts with their nearest neighbors; None without embeddings."""


class Topics(_Record):
    """Topics of the exchanges."""

    entropy: SampledMeasure
    """Bits; log2 of the number of topics where all are equally frequent."""
    counts: dict[str, int]
    """Topic -> exchanges, the most frequent first."""


class Diversity(_Record):
    """Content of ``diversity.json``."""

    exchanges: int
    """Exchanges in the pool; at most 5,000 of them are measured."""
    topics: Topics
    queries: Column
    answers: Column


def measure_topics(topics: Sequence[str], seed: int) -> Topics:
    """Measure the topics of one or more exchanges."""
    topic_entropy = measure_samples(len(topics), SAMPLE_TEXTS, seed, lambda sample: entropy(topics[i] for i in sample))
    return Topics(entropy=topic_entropy, counts=dict(Counter(topics).most_common()))


def measure_texts(texts: Sequence[str], tokens: Sequence[int], seed: int) -> Column:
    """Measure one or more texts, with their numbers of ``tokens``.

    Samples of up to 200 texts are taken without replacement. In a pool that is no larger, every sample is the pool itself and the
    intervals are points.
    """
    words = [split_words(text) for text in texts]
    ngrams = extract_ngrams(words)
    openings = [extract_opening(text) for text in texts]
    scores: dict[str, Callable[[Sequence[int]], float]] = {
        **{f"distinct_{n}": lambda sample, n=n: distinct_n(ngrams[n - 1], sample) for n in (1, 2, 3)},
        "self_bleu": lambda sample: self_bleu(ngrams, sample),
        "compression_ratio": lambda sample: compression_ratio(texts[i] for i in sample),
        "opening_entropy": lambda sample: entropy(openings[i] for i in sample),
    }
    lengths = np.array([count_words(each) for each in words])
    low, median, high = np.quantile(lengths, _QUANTILES).tolist()
    return Column(
        texts=len(texts),
        sample_texts=min(len(texts), SAMPLE_TEXTS),
        embedded_texts=0,
        sample_vectors=0,
        words=(low, median, high),
        measures={name: measure_samples(len(texts), SAMPLE_TEXTS, seed, score) for name, score in scores.items()},
        lengths={"words": build_length_histogram(lengths), "tokens": build_length_histogram(tokens)},
        languages=count_languages(texts),
        openings=dict(Counter(openings).most_common(_TOP_OPENINGS)),
        nearest=None,
    )


def add_vector_measures(column: Column, vectors_ND: NDArray[np.floating], seed: int) -> Column:
    """Return ``column`` with the measures of the vectors of one or more of its texts, over samples of up to 100."""
    unit_ND = normalize_rows(vectors_ND)
    count = len(unit_ND)
    scores = {"vendi": vendi, "mean_distance": mean_distance}
    measures = {
        name: measure_samples(count, SAMPLE_VECTORS, seed, lambda sample, score=score: score(unit_ND[list(sample)]))
        for name, score in scores.items()
    }
    counts, edges = np.histogram(nearest_cosines(unit_ND).clip(0, 1), bins=_BINS, range=(0, 1))
    changes = {
        "embedded_texts": count,
        "sample_vectors": min(count, SAMPLE_VECTORS),
        "measures": column.measures | measures,
        "nearest": Histogram(edges=edges.round(6).tolist(), counts=counts.tolist()),
    }
    return column.model_copy(update=changes)


def measure_samples(count: int, sample_size: int, seed: int, score: Callable[[Sequence[int]], float]) -> SampledMeasure:
    """Apply ``score`` to 40 samples of up to ``sample_size`` indices below ``count``."""
    size = min(count, sample_size)
    # A pool that is no larger has only one sample.
    values = [score(_sample(count, size, seed, number)) for number in range(1 if size == count else _SAMPLES)]
    low, value, high = np.quantile(values, _INTERVAL).tolist()
    return SampledMeasure(value=value, low=low, high=high)


def build_length_histogram(lengths: ArrayLike) -> Histogram:
    """Count lengths in up to 20 bins of integers from 0 to the 99th percentile; longer ones count in the last bin."""
    values = np.asarray(lengths)
    width = max(1, int(np.ceil((np.quantile(values, 0.99) + 1) / _BINS)))
    edges = np.arange(0, int(np.quantile(values, 0.99)) + width + 1, width)
    counts, _ = np.histogram(values.clip(max=edges[-1] - 1), bins=edges)
    return Histogram(edges=edges.astype(float).tolist(), counts=counts.tolist())


def _sample(count: int, size: int, seed: int, number: int) -> list[int]:
    """Sample ``size`` indices below ``count``. All indices stay in order, since the order of texts changes their compression ratio."""
    if size == count:
        return list(range(count))
    generator = np.random.default_rng(keyed_int(seed, "diversity", str(number)))
    return generator.choice(count, size, replace=False).tolist()
