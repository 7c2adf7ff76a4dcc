"""Near-duplicates among texts: MinHash signatures, locality-sensitive hashing, clusters. Arrays in, arrays out."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from delia_ray.overlap import SHINGLE_WORDS
from delia_ray.words import words_of

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

ROWS_AT_ONCE = 2**16
"""Most texts, or pairs of texts, of one call: their number stands in a key's upper 16 bits, a hash in its lower 48."""
_HASH_BITS = np.uint64(48)
_HASH_MASK = np.uint64(2**48 - 1)
_RECALL = 0.97
_MOST_BANDS = 32
_MOST_PERMUTATIONS = 128
_NEIGHBOURS = 8


@dataclass(frozen=True)
class Bands:
    """How a signature is parted: two texts are compared if all ``rows`` minima of one of ``count`` bands are equal."""

    count: int
    rows: int

    def chance(self, similarity: float) -> float:
        """That texts of this Jaccard similarity are compared: 1 - (1 - s^rows)^count (Leskovec et al., MMDS, section 3.4)."""
        return 1 - (1 - similarity**self.rows) ** self.count


def bands_for(similarity: float) -> Bands:
    """The most selective bands that compare texts of just this similarity with a chance of 0.97, and closer ones more surely."""
    fitting = [Bands(1, 1)]
    for rows in range(1, _MOST_PERMUTATIONS + 1):
        found = similarity**rows
        count = math.ceil(math.log1p(-_RECALL) / math.log1p(-found)) if found < 1 else 1
        if count <= _MOST_BANDS and count * rows <= _MOST_PERMUTATIONS:
            fitting.append(Bands(count, rows))
    return fitting[-1]


@dataclass(frozen=True)
class Shingles:
    """The set of runs of three words of each text, as 48-bit hashes; of a shorter text, all of it.

    Attributes:
        hashes: of all texts one after another, ascending within each.
        starts: one more than there are texts.
    """

    hashes: Hashes
    starts: Places

    @property
    def sizes(self) -> Places:
        return np.diff(self.starts)


def shingles(texts: Sequence[str]) -> Shingles:
    """Shingles of at most ``ROWS_AT_ONCE`` texts; a text without a word has none."""
    parted = [words_of(text) for text in texts]
    lengths = np.fromiter(map(len, parted), dtype=np.int64, count=len(parted))
    words = _word_hashes(list(chain.from_iterable(parted)))
    counts = np.where(lengths > 0, np.maximum(lengths - SHINGLE_WORDS + 1, 1), 0)
    ends = np.cumsum(lengths)
    places = _spread(ends - lengths, counts)
    past = np.repeat(ends, counts)
    hashes = np.zeros(len(places), dtype=np.uint64)
    for step in range(SHINGLE_WORDS):
        word = np.where(places + step < past, words[np.minimum(places + step, len(words) - 1)], np.uint64(0)) if len(places) else hashes
        hashes = _mixed(hashes + word)
    keys = np.sort(_keys(counts, hashes))
    keys = keys[np.concatenate([np.ones(len(keys[:1]), dtype=np.bool_), keys[1:] != keys[:-1]])]
    sizes = np.bincount((keys >> _HASH_BITS).astype(np.int64), minlength=len(texts))
    return Shingles(keys & _HASH_MASK, np.concatenate([[0], np.cumsum(sizes)]))


def _word_hashes(words: list[str]) -> Hashes:
    """The same in every process, unlike ``hash``."""
    coded = pa.array(words, pa.string()).dictionary_encode()
    digests = b"".join(hashlib.blake2b(word.encode(), digest_size=8).digest() for word in coded.dictionary.to_pylist())
    return np.frombuffer(digests, dtype="<u8")[coded.indices.to_numpy()].astype(np.uint64)


def _mixed(values: Hashes) -> Hashes:
    """A bijection of 64 bits after which each depends on all (Steele et al. 2014, SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _spread(starts: Places, counts: Places) -> Places:
    """``starts[i], starts[i] + 1, ...``, ``counts[i]`` of them, for each i."""
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(starts - before, counts)


def _keys(counts: Places, hashes: Hashes) -> Hashes:
    """Each hash under the number of what it belongs to."""
    return (np.repeat(np.arange(len(counts), dtype=np.uint64), counts) << _HASH_BITS) | (hashes & _HASH_MASK)


def buckets(given: Shingles, bands: Bands) -> Iterator[Hashes]:
    """For each band, the bucket of each text; every text must have a shingle.

    A minimum is taken of a*h + b modulo 2^64, a odd, over a text's hashes h (Broder 1997; Dietzfelbinger et al. 1997); two
    texts share it with a chance of their Jaccard similarity.
    """
    chance = np.random.Generator(np.random.PCG64(0))
    scaled = np.empty_like(given.hashes)
    for _ in range(bands.count):
        bucket = np.zeros(len(given.sizes), dtype=np.uint64)
        for factor, shift in chance.integers(0, 2**64, (bands.rows, 2), dtype=np.uint64):
            np.multiply(given.hashes, factor | np.uint64(1), out=scaled)
            scaled += shift
            bucket = _mixed(bucket + np.minimum.reduceat(scaled, given.starts[:-1]))
        yield bucket


def candidates(bucket: Hashes, key: Places) -> tuple[Places, Places]:
    """Places of texts that share a bucket, in pairs: each with the next eight in the order of ``key``.

    Up to nine texts in a bucket are all compared; of more, each still meets its neighbours, so the pairs grow with the texts.
    """
    order = np.argsort(bucket)
    ordered = bucket[order]
    alike = ordered[1:] == ordered[:-1]
    shared = order[np.concatenate([alike, [False]]) | np.concatenate([[False], alike])] if len(order) else order
    shared = shared[np.lexsort((key[shared], bucket[shared]))]
    left, right = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for step in range(1, _NEIGHBOURS + 1):
        same = bucket[shared[step:]] == bucket[shared[:-step]]
        left.append(shared[:-step][same])
        right.append(shared[step:][same])
    return np.concatenate(left), np.concatenate(right)


def jaccard(given: Shingles, left: Places, right: Places) -> NDArray[np.float64]:
    """Jaccard similarity of at most ``ROWS_AT_ONCE`` pairs of texts."""
    sizes = given.sizes
    sides = [_keys(sizes[side], given.hashes[_spread(given.starts[side], sizes[side])]) for side in (left, right)]
    keys = np.sort(np.concatenate(sides))
    shared = np.bincount((keys[1:][keys[1:] == keys[:-1]] >> _HASH_BITS).astype(np.int64), minlength=len(left))
    return shared / (sizes[left] + sizes[right] - shared)


def clusters(left: Places, right: Places, nodes: int) -> Places:
    """The smallest node that each of ``nodes`` is connected with, itself included.

    Roots are hooked onto smaller neighbours and paths halved, in rounds of whole arrays (Shiloach and Vishkin 1982).
    """
    roots = np.arange(nodes)
    while True:
        low = np.minimum(roots[left], roots[right])
        hooked = roots.copy()
        for side in (left, right, roots[left], roots[right]):
            np.minimum.at(hooked, side, low)
        while (hooked[hooked] != hooked).any():
            hooked = hooked[hooked]
        if (hooked == roots).all():
            return roots
        roots = hooked
