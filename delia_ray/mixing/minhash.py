"""MinHash and locality-sensitive hashing (LSH) of texts: signatures, candidate pairs, Jaccard similarity, clusters.

Arrays in, arrays out; independent of Ray.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from delia_ray.core.text.overlap import SHINGLE_WORDS
from delia_ray.core.text.words import split_words

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

ROWS_AT_ONCE = 2**16
"""Maximal number of texts, or of pairs of texts, in one call: a key holds their number in its upper 16 bits, a hash in its lower 48."""
_HASH_BITS = np.uint64(48)
_HASH_MASK = np.uint64(2**48 - 1)
_RECALL = 0.97
_MAX_BANDS = 32
_MAX_PERMUTATIONS = 128
_NEIGHBORS = 8


@dataclass(frozen=True)
class Bands:
    """How a signature is split into LSH bands: two texts are compared if all ``rows`` minima of one of ``count`` bands are equal."""

    count: int
    rows: int


def choose_bands(similarity: float) -> Bands:
    """Choose the most selective bands that compare texts of exactly this similarity with probability 0.97, and closer texts with more.

    Texts of similarity s are compared with probability 1 - (1 - s^rows)^count (Leskovec et al., MMDS, section 3.4).
    """
    fitting = [Bands(1, 1)]
    for rows in range(1, _MAX_PERMUTATIONS + 1):
        equal = similarity**rows
        count = math.ceil(math.log1p(-_RECALL) / math.log1p(-equal)) if equal < 1 else 1
        if count <= _MAX_BANDS and count * rows <= _MAX_PERMUTATIONS:
            fitting.append(Bands(count, rows))
    return fitting[-1]


@dataclass(frozen=True)
class Shingles:
    """The set of runs of three words of each text, as 48-bit hashes; a shorter text is one shingle.

    Attributes:
        hashes: of all texts one after another, ascending within each.
        starts: index of each text's first hash, and the number of hashes at the end.
    """

    hashes: Hashes
    starts: Indices

    @property
    def sizes(self) -> Indices:
        """Number of shingles of each text."""
        return np.diff(self.starts)


def hash_shingles(texts: Sequence[str]) -> Shingles:
    """Hash the shingles of at most ``ROWS_AT_ONCE`` texts; a text without a word has none."""
    words_of_texts = [split_words(text) for text in texts]
    lengths = np.fromiter(map(len, words_of_texts), dtype=np.int64, count=len(words_of_texts))
    words = _hash_words(list(chain.from_iterable(words_of_texts)))
    counts = np.where(lengths > 0, np.maximum(lengths - SHINGLE_WORDS + 1, 1), 0)
    ends = np.cumsum(lengths)
    index = _concatenate_ranges(ends - lengths, counts)
    limits = np.repeat(ends, counts)
    hashes = np.zeros(len(index), dtype=np.uint64)
    for step in range(SHINGLE_WORDS):
        word = np.where(index + step < limits, words[np.minimum(index + step, len(words) - 1)], np.uint64(0)) if len(index) else hashes
        hashes = _mix_bits(hashes + word)
    keys = np.sort(_make_keys(counts, hashes))
    keys = keys[np.concatenate([np.ones(len(keys[:1]), dtype=np.bool_), keys[1:] != keys[:-1]])]
    sizes = np.bincount((keys >> _HASH_BITS).astype(np.int64), minlength=len(texts))
    return Shingles(keys & _HASH_MASK, np.concatenate([[0], np.cumsum(sizes)]))


def _hash_words(words: list[str]) -> Hashes:
    """Hash words; the result is the same in every process, unlike that of ``hash``."""
    encoded = pa.array(words, pa.string()).dictionary_encode()
    digests = b"".join(hashlib.blake2b(word.encode(), digest_size=8).digest() for word in encoded.dictionary.to_pylist())
    return np.frombuffer(digests, dtype="<u8")[encoded.indices.to_numpy()].astype(np.uint64)


def _mix_bits(values: Hashes) -> Hashes:
    """Apply a bijection of 64 bits after which each bit depends on all bits (Steele et al. 2014, SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _concatenate_ranges(starts: Indices, counts: Indices) -> Indices:
    """Concatenate the ranges ``starts[i], starts[i] + 1, ...`` of ``counts[i]`` numbers, for each i."""
    offsets = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(starts - offsets, counts)


def _make_keys(counts: Indices, hashes: Hashes) -> Hashes:
    """Put the number of a hash's text (or pair) into the upper 16 bits of the hash."""
    return (np.repeat(np.arange(len(counts), dtype=np.uint64), counts) << _HASH_BITS) | (hashes & _HASH_MASK)


def bucket_texts(shingles: Shingles, bands: Bands) -> Iterator[Hashes]:
    """Yield, for each band, the LSH bucket of each text; every text must have a shingle.

    A minimum is taken of a*h + b modulo 2^64, a odd, over a text's hashes h (Broder 1997; Dietzfelbinger et al. 1997). Two texts have
    the same minimum with a probability equal to their Jaccard similarity.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    permuted = np.empty_like(shingles.hashes)
    for _ in range(bands.count):
        bucket = np.zeros(len(shingles.sizes), dtype=np.uint64)
        for factor, shift in rng.integers(0, 2**64, (bands.rows, 2), dtype=np.uint64):
            np.multiply(shingles.hashes, factor | np.uint64(1), out=permuted)
            permuted += shift
            bucket = _mix_bits(bucket + np.minimum.reduceat(permuted, shingles.starts[:-1]))
        yield bucket


def pair_candidates(bucket: Hashes, key: Indices) -> tuple[Indices, Indices]:
    """Pair the indices of texts that share a bucket: each with the next eight in the order of ``key``.

    Up to nine texts in a bucket are all compared. In a larger bucket each text is compared with its neighbors only, so that the number of
    pairs grows linearly with the texts.
    """
    order = np.argsort(bucket)
    ordered = bucket[order]
    equal = ordered[1:] == ordered[:-1]
    shared = order[np.concatenate([equal, [False]]) | np.concatenate([[False], equal])] if len(order) else order
    shared = shared[np.lexsort((key[shared], bucket[shared]))]
    left, right = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for step in range(1, _NEIGHBORS + 1):
        same = bucket[shared[step:]] == bucket[shared[:-step]]
        left.append(shared[:-step][same])
        right.append(shared[step:][same])
    return np.concatenate(left), np.concatenate(right)


def jaccard(shingles: Shingles, left: Indices, right: Indices) -> NDArray[np.float64]:
    """Compute the Jaccard similarity of at most ``ROWS_AT_ONCE`` pairs of texts."""
    sizes = shingles.sizes
    sides = [_make_keys(sizes[side], shingles.hashes[_concatenate_ranges(shingles.starts[side], sizes[side])]) for side in (left, right)]
    keys = np.sort(np.concatenate(sides))
    shared = np.bincount((keys[1:][keys[1:] == keys[:-1]] >> _HASH_BITS).astype(np.int64), minlength=len(left))
    return shared / (sizes[left] + sizes[right] - shared)


def find_clusters(left: Indices, right: Indices, nodes: int) -> Indices:
    """Find the connected components of a graph of ``nodes`` nodes: for each node the smallest node of its component.

    Args:
        left: one end of each edge.
        right: its other end.
        nodes: number of nodes.
    """
    edges = coo_array((np.ones(len(left), dtype=np.bool_), (left, right)), shape=(nodes, nodes))
    labels: Indices = connected_components(edges, directed=False)[1]
    _, smallest = np.unique(labels, return_index=True)
    return smallest[labels]
