"""How diverse a pool of texts is. Each number is of samples of one size, so that pools of different sizes can be compared."""

import heapq
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads

from delia_ray.records import keyed_int
from delia_ray.words import ngrams, words_of

SAMPLE_TEXTS = 200
_SAMPLES = 40
_POOL_TEXTS = 5_000
_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Measure:
    """Median over samples of the pool, and the range of the middle 95 % of them."""

    value: float
    low: float
    high: float


def measure(texts: Sequence[str], topics: Sequence[str], seed: int = 0) -> dict[str, object]:
    """``texts``, one or more, and the topic each was asked under, by name of the measure.

    Samples of up to 200 texts are drawn without replacement; in a pool that is no larger, all samples are the pool itself and
    the intervals are points.

    Returns:
        ``texts`` and ``sample_texts`` (counts), ``words`` (5th, 50th and 95th percentile of a text's length), and a
        ``Measure`` for each of ``distinct_1`` to ``distinct_3``, ``compression_ratio`` and ``topic_entropy``.
    """
    assert texts and len(texts) == len(topics)
    size = min(len(texts), SAMPLE_TEXTS)
    samples = [_sample(len(texts), size, seed, number) for number in range(_SAMPLES)]
    words = [words_of(text) for text in texts]

    def over_samples(score: Callable[[Sequence[int]], float]) -> dict[str, float]:
        low, value, high = np.quantile([score(sample) for sample in samples], (0.025, 0.5, 0.975))
        return asdict(Measure(float(value), float(low), float(high)))

    return {
        "texts": len(texts),
        "sample_texts": size,
        "words": [float(each) for each in np.quantile([len(each) for each in words], _QUANTILES)],
        **{f"distinct_{n}": over_samples(lambda sample, n=n: distinct([words[i] for i in sample], n)) for n in (1, 2, 3)},
        "compression_ratio": over_samples(lambda sample: compression_ratio(texts[i] for i in sample)),
        "topic_entropy": over_samples(lambda sample: entropy(topics[i] for i in sample)),
    }


def describe(kept: Path, seed: int = 0) -> dict[str, object]:
    """``measure`` of the queries and of the answers in a folder of exchanges; of a large pool, of a sample of it."""
    rows = heapq.nsmallest(_POOL_TEXTS, _exchanges(kept), key=lambda row: keyed_int(seed, "describe", row["exchange_id"]))
    topics = [row["topic"] for row in rows]
    return {name: measure([row[column] for row in rows], topics, seed) for name, column in (("queries", "query"), ("answers", "answer"))}


def _exchanges(kept: Path) -> Iterator[dict[str, str]]:
    columns = ["exchange_id", "topic", "query", "answer"]
    for batch in pads.dataset(kept, format="parquet").to_batches(columns=columns):
        yield from batch.to_pylist()


def distinct(texts: Iterable[Sequence[str]], n: int) -> float:
    """Different n-grams over all n-grams, 0 to 1 (distinct-n; Li et al., arXiv 1510.03055). 0 where no text has n words."""
    grams = Counter(chain.from_iterable(ngrams(words, n) for words in texts))
    return len(grams) / grams.total() if grams else 0.0


def compression_ratio(texts: Iterable[str]) -> float:
    """Bytes of the texts in a row over bytes of the same deflated: the more repetition, the higher (Shaib et al., arXiv 2403.00553)."""
    raw = "\n".join(texts).encode()
    return len(raw) / len(zlib.compress(raw, level=9))


def entropy(labels: Iterable[str]) -> float:
    """Shannon entropy of the labels in bits: log2 k where k of them are equally frequent."""
    counts = Counter(labels)
    return -sum(count / counts.total() * math.log2(count / counts.total()) for count in counts.values()) + 0.0


def _sample(count: int, size: int, seed: int, number: int) -> list[int]:
    """``size`` of ``count`` places; all in order where that is all of them, since the order of texts changes how they deflate."""
    if size == count:
        return list(range(count))
    generator = np.random.default_rng(keyed_int(seed, "diversity", str(number)))
    return generator.choice(count, size, replace=False).tolist()
