"""How much the words of texts repeat each other: numbers of a sample, cheap enough to be taken of many samples."""

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delia_ray.words import first_words

_ORDERS = 4
_NO_MATCH = 0.1


@dataclass(frozen=True)
class Grams:
    """The n-grams of N texts, for one n. No n-gram runs from one text into the next."""

    ids: NDArray[np.int64]
    """[G] all texts' n-grams in a row, as integers that are equal where the n-grams are."""
    starts: NDArray[np.int64]
    """[N + 1] text i has ``ids[starts[i]:starts[i + 1]]``."""

    def of(self, sample: Sequence[int]) -> list[NDArray[np.int64]]:
        """The n-grams of each text of ``sample``."""
        return [self.ids[self.starts[i] : self.starts[i + 1]] for i in sample]


def grams_of(texts: Sequence[Sequence[str]]) -> tuple[Grams, ...]:
    """The 1-grams to 4-grams of texts in words."""
    lengths = np.array([len(words) for words in texts])
    vocabulary: dict[str, int] = {}
    words_G = np.array([vocabulary.setdefault(word, len(vocabulary)) for words in texts for word in words], dtype=np.int64)
    left_G = np.concatenate([np.arange(length, 0, -1) for length in lengths]) if len(lengths) else lengths
    found: list[Grams] = []
    ids_G = words_G
    for n in range(1, _ORDERS + 1):
        starts = np.concatenate([[0], np.cumsum(np.maximum(lengths - n + 1, 0))])
        found.append(Grams(ids_G[left_G >= n], starts))
        # An n-gram and the word after it, numbered anew so that no product of them overflows.
        following_G = np.concatenate([words_G[n:], np.zeros(min(n, len(words_G)), dtype=np.int64)])
        ids_G = np.unique(ids_G * max(1, len(vocabulary)) + following_G, return_inverse=True)[1]
    return tuple(found)


def distinct(grams: Grams, sample: Sequence[int]) -> float:
    """Different n-grams over all n-grams, 0 to 1 (distinct-n; Li et al., arXiv 1510.03055, section 5.2). 0 where no text has n words."""
    ids = np.concatenate(grams.of(sample))
    return len(np.unique(ids)) / len(ids) if len(ids) else 0.0


def self_bleu(grams: Sequence[Grams], sample: Sequence[int]) -> float:
    """Mean BLEU-4 of each text against all others of the sample as its references, 0 to 1 (Zhu et al., Texygen, arXiv 1802.01886).

    BLEU is the brevity penalty times the geometric mean of the clipped n-gram precisions (Papineni et al., 2002, eq. 3). As in
    Texygen, an order without a match counts 0.1 matches (Chen and Cherry, 2014, method 1), and a text that shares no word with any
    other is 0. A text of fewer than four words has only the orders it has n-grams of; one without words is left out; one alone is 0.

    References grow with the sample, and the value with them: compare samples of one size. All n-grams of the sample are counted
    at once, since what clips a text's n-gram is the largest count of it in another text, which is the sample's largest or, for
    the text that holds that one, its second largest.
    """
    lengths = np.array([len(each) for each in grams[0].of(sample)])
    sample, lengths = [text for text, length in zip(sample, lengths, strict=True) if length], lengths[lengths > 0]
    if len(sample) < 2:
        return 0.0
    matches_4S, totals_4S = (np.array(each) for each in zip(*(_clipped(each.of(sample)) for each in grams), strict=True))
    precisions_4S = np.where(matches_4S, matches_4S, _NO_MATCH) / np.maximum(totals_4S, 1)
    means_S = np.log(precisions_4S).sum(0, where=totals_4S > 0) / (totals_4S > 0).sum(0)
    penalties_S = np.minimum(0, 1 - _closest_others(lengths) / lengths)
    return float(np.mean(np.exp(means_S + penalties_S) * (matches_4S[0] > 0)))


def _clipped(texts: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.number], NDArray[np.number]]:
    """[S] n-grams of each text that another has too, as often as it has them; and [S] all of them."""
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


def _closest_others(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """[S] for each text, the length nearest to its own among the others'; of two as near, the shorter."""
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order].astype(float)
    below, above = np.concatenate([[-np.inf], ordered[:-1]]), np.concatenate([ordered[1:], [np.inf]])
    closest = np.where(ordered - below <= above - ordered, below, above)
    found = np.empty(len(lengths))
    found[order] = closest
    return found.astype(np.int64)


def compression_ratio(texts: Iterable[str]) -> float:
    """Bytes of the texts in a row over bytes of the same deflated: the more repetition, the higher (Shaib et al., arXiv 2403.00553)."""
    raw = "\n".join(texts).encode()
    return len(raw) / len(zlib.compress(raw, level=9))


def entropy(labels: Iterable[str]) -> float:
    """Shannon entropy of the labels in bits (Shannon, 1948): log2 k where k of them are equally frequent."""
    counts = Counter(labels)
    return -sum(count / counts.total() * math.log2(count / counts.total()) for count in counts.values()) + 0.0


def opening(text: str) -> str:
    """The first two words, lower case, or four letters of a script without spaces: what kind of text it is, told without a parser.

    Self-Instruct (arXiv 2212.10560, figure 2) counts root verbs with their objects, which takes a constituency parser.
    """
    return " ".join(first_words(text, 2))
