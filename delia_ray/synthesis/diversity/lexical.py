"""Lexical diversity measures of a sample of texts, cheap enough to compute over many samples."""

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delia_ray.core.text.words import take_first_words

_ORDERS = 4
_NO_MATCH = 0.1


@dataclass(frozen=True)
class NGrams:
    """The n-grams of N texts, for one n. No n-gram spans two texts."""

    ids: NDArray[np.int64]
    """[G] the n-grams of all texts, one text after another, as integers that are equal where the n-grams are."""
    starts: NDArray[np.int64]
    """[N + 1] text i has ``ids[starts[i]:starts[i + 1]]``."""

    def select(self, sample: Sequence[int]) -> list[NDArray[np.int64]]:
        """Return the n-grams of each text of ``sample``."""
        return [self.ids[self.starts[i] : self.starts[i + 1]] for i in sample]


def extract_ngrams(texts: Sequence[Sequence[str]]) -> tuple[NGrams, ...]:
    """Extract the 1-grams to 4-grams of texts that are lists of words."""
    lengths = np.array([len(words) for words in texts])
    vocabulary: dict[str, int] = {}
    words_G = np.array([vocabulary.setdefault(word, len(vocabulary)) for words in texts for word in words], dtype=np.int64)
    remaining_G = np.concatenate([np.arange(length, 0, -1) for length in lengths]) if len(lengths) else lengths
    ngrams: list[NGrams] = []
    ids_G = words_G
    for n in range(1, _ORDERS + 1):
        starts = np.concatenate([[0], np.cumsum(np.maximum(lengths - n + 1, 0))])
        ngrams.append(NGrams(ids_G[remaining_G >= n], starts))
        # An n-gram and the word after it, renumbered so that no product of them overflows.
        following_G = np.concatenate([words_G[n:], np.zeros(min(n, len(words_G)), dtype=np.int64)])
        ids_G = np.unique(ids_G * max(1, len(vocabulary)) + following_G, return_inverse=True)[1]
    return tuple(ngrams)


def distinct_n(ngrams: NGrams, sample: Sequence[int]) -> float:
    """Distinct-n: different n-grams over all n-grams, 0 to 1 (Li et al., arXiv 1510.03055, section 5.2). 0 where no text has n words."""
    ids = np.concatenate(ngrams.select(sample))
    return len(np.unique(ids)) / len(ids) if len(ids) else 0.0


def self_bleu(ngrams: Sequence[NGrams], sample: Sequence[int]) -> float:
    """Self-BLEU, 0 to 1: mean BLEU-4 of each text with all others of the sample as references (Zhu et al., Texygen, arXiv 1802.01886).

    BLEU is the brevity penalty times the geometric mean of the clipped n-gram precisions (Papineni et al., 2002, eq. 3). As in
    Texygen, an order without a match counts 0.1 matches (Chen and Cherry, 2014, method 1), and a text that shares no word with any
    other scores 0. A text of fewer than four words has only the orders it has n-grams of; a text without words is left out; a single
    text scores 0.

    References grow with the sample, and the value with them: compare samples of the same size. All n-grams of the sample are counted
    at once: the count of a text's n-gram is clipped to its largest count in another text, which is the largest in the sample or, for
    the text that has that one, the second largest.
    """
    lengths = np.array([len(each) for each in ngrams[0].select(sample)])
    sample, lengths = [text for text, length in zip(sample, lengths, strict=True) if length], lengths[lengths > 0]
    if len(sample) < 2:
        return 0.0
    matches_4S, totals_4S = (np.array(each) for each in zip(*(_count_matches(each.select(sample)) for each in ngrams), strict=True))
    precisions_4S = np.where(matches_4S, matches_4S, _NO_MATCH) / np.maximum(totals_4S, 1)
    means_S = np.log(precisions_4S).sum(0, where=totals_4S > 0) / (totals_4S > 0).sum(0)
    penalties_S = np.minimum(0, 1 - _closest_lengths(lengths) / lengths)
    return float(np.mean(np.exp(means_S + penalties_S) * (matches_4S[0] > 0)))


def _count_matches(texts: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.number], NDArray[np.number]]:
    """Count each text's n-grams that match another text, clipped to the count there: [S]; and all its n-grams: [S]."""
    totals = np.array([len(each) for each in texts])
    owners = np.repeat(np.arange(len(texts)), totals)
    pairs, counts = np.unique(np.concatenate(texts) * len(texts) + owners, return_counts=True)
    ids, owners = np.divmod(pairs, len(texts))
    order = np.lexsort((-counts, ids))
    ids, owners, counts = ids[order], owners[order], counts[order]
    first = np.concatenate([[True], ids[1:] != ids[:-1]])[: len(ids)]
    second = np.concatenate([np.where(first[1:], 0, counts[1:]), [0]])[: len(ids)]
    others = np.where(first, second, counts[first][np.cumsum(first) - 1])
    return np.bincount(owners, np.minimum(counts, others), len(texts)), totals


def _closest_lengths(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """[S] for each text, the length closest to its own among the other texts'; the shorter of two that are equally close."""
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order].astype(float)
    below, above = np.concatenate([[-np.inf], ordered[:-1]]), np.concatenate([ordered[1:], [np.inf]])
    closest = np.empty(len(lengths))
    closest[order] = np.where(ordered - below <= above - ordered, below, above)
    return closest.astype(np.int64)


def compression_ratio(texts: Iterable[str]) -> float:
    """Compression ratio: bytes of the joined texts over their deflated bytes; repetition raises it (Shaib et al., arXiv 2403.00553)."""
    raw = "\n".join(texts).encode()
    return len(raw) / len(zlib.compress(raw, level=9))


def entropy(labels: Iterable[str]) -> float:
    """Shannon entropy of the labels in bits (Shannon, 1948): log2 k for k equally frequent labels."""
    counts = Counter(labels)
    return -sum(count / counts.total() * math.log2(count / counts.total()) for count in counts.values()) + 0.0


def extract_opening(text: str) -> str:
    """Return the first two words in lower case, or four letters of a script without spaces: the kind of text, without a parser.

    Self-Instruct (arXiv 2212.10560, figure 2) counts root verbs with their objects, which needs a constituency parser.
    """
    return " ".join(take_first_words(text, 2))
