"""Semantic deduplication of embedding vectors: LSH buckets by random hyperplanes, and pairs of similar vectors within a bucket.

Arrays in, arrays out; independent of Ray.

Shape legend: N texts, D dimensions, R hyperplanes of a band.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from delia_ray.mixing.minhash import Bands, Indices

Vectors = NDArray[np.float16]
"""[N, D] rows of length 1. Half precision resolves cosines to a thousandth."""
_RECALL = 0.97
_MAX_BANDS = 32
_BUCKET_ROWS = 256
_MAX_COMPARED = 1024


def choose_planes(cosine: float, rows: int) -> Bands:
    """Choose how many random hyperplanes split ``rows`` texts into buckets of a few hundred, and in how many bands.

    There are as many bands as it takes for two texts of exactly this cosine to share a bucket with probability 0.97. Two texts are on
    the same side of a hyperplane with probability 1 - angle / pi (Charikar 2002, "Similarity estimation techniques from rounding
    algorithms").
    """
    agree = 1 - math.acos(cosine) / math.pi
    for size in range(max(1, math.ceil(math.log2(max(rows, 2) / _BUCKET_ROWS))), 1, -1):
        same_bucket = agree**size
        count = math.ceil(math.log1p(-_RECALL) / math.log1p(-same_bucket)) if same_bucket < 1 else 1
        if count <= _MAX_BANDS:
            return Bands(count, size)
    return Bands(1, 0)


def normalize_rows(vectors_ND: NDArray[np.floating]) -> Vectors:
    """Scale the rows to length 1, in half precision; a row of zeros stays one."""
    rows_ND = np.asarray(vectors_ND, dtype=np.float32)
    return (rows_ND / np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), 1e-12)).astype(np.float16)


def bucket_vectors(unit_ND: Vectors, planes: Bands) -> Iterator[NDArray[np.uint64]]:
    """Yield, for each band, the LSH bucket of each vector: on which side of each of the band's hyperplanes it is."""
    rng = np.random.Generator(np.random.PCG64(0))
    rows_ND = unit_ND.astype(np.float32)
    for _ in range(planes.count):
        planes_DR = rng.standard_normal((unit_ND.shape[1], planes.rows), dtype=np.float32)
        yield ((rows_ND @ planes_DR > 0) << np.arange(planes.rows, dtype=np.uint64)).sum(1, dtype=np.uint64)


def split_buckets(bucket: NDArray[np.uint64], key: Indices) -> Iterator[Indices]:
    """Yield the indices of texts that share a bucket, in the order of ``key``; a larger bucket in parts of 1,024."""
    order = np.lexsort((key, bucket))
    ends = np.flatnonzero(np.diff(bucket[order])) + 1
    for indices in np.split(order, ends):
        for start in range(0, len(indices), _MAX_COMPARED):
            if len(part := indices[start : start + _MAX_COMPARED]) > 1:
                yield part


def find_similar_pairs(unit_ND: Vectors, cosine: float) -> tuple[Indices, Indices]:
    """Find all pairs of rows with at least this cosine, each pair once."""
    rows_ND = unit_ND.astype(np.float32)
    left, right = np.nonzero(np.triu(rows_ND @ rows_ND.T >= cosine, k=1))
    return left, right
