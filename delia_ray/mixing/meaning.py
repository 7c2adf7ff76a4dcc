"""Texts that say the same in other words: vectors that point the same way. Arrays in, arrays out.

Legend: N texts, D dimensions.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from delia_ray.mixing.minhash import Bands, Places

Vectors = NDArray[np.float16]
"""[N, D] rows of length 1; half precision tells cosines apart to a thousandth."""
_RECALL = 0.97
_MOST_BANDS = 32
_BUCKET_ROWS = 256
_MOST_COMPARED = 1024


def planes_for(cosine: float, rows: int) -> Bands:
    """Random hyperplanes that part ``rows`` texts into buckets of a few hundred, in as many bands as it takes for two texts of just
    this cosine to meet with a chance of 0.97.

    A plane has both texts on one side with a chance of 1 - angle / pi (Charikar 2002, "Similarity estimation techniques from
    rounding algorithms").
    """
    agree = 1 - math.acos(cosine) / math.pi
    for size in range(max(1, math.ceil(math.log2(max(rows, 2) / _BUCKET_ROWS))), 1, -1):
        found = agree**size
        count = math.ceil(math.log1p(-_RECALL) / math.log1p(-found)) if found < 1 else 1
        if count <= _MOST_BANDS:
            return Bands(count, size)
    return Bands(1, 0)


def unit_halves(vectors_ND: NDArray[np.floating]) -> Vectors:
    """The rows at length 1, in half precision; a row of zeros stays one."""
    rows = np.asarray(vectors_ND, dtype=np.float32)
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float16)


def sides(unit_ND: Vectors, planes: Bands) -> Iterator[NDArray[np.uint64]]:
    """For each band, the bucket of each text: on which side of the band's planes it lies."""
    chance = np.random.Generator(np.random.PCG64(0))
    rows = unit_ND.astype(np.float32)
    for _ in range(planes.count):
        plane_DR = chance.standard_normal((unit_ND.shape[1], planes.rows), dtype=np.float32)
        yield ((rows @ plane_DR > 0) << np.arange(planes.rows, dtype=np.uint64)).sum(1, dtype=np.uint64)


def runs(bucket: NDArray[np.uint64], key: Places) -> Iterator[Places]:
    """Places of texts that share a bucket, in the order of ``key``, by the thousand where there are more."""
    order = np.lexsort((key, bucket))
    ends = np.flatnonzero(np.diff(bucket[order])) + 1
    for run in np.split(order, ends):
        for start in range(0, len(run), _MOST_COMPARED):
            if len(part := run[start : start + _MOST_COMPARED]) > 1:
                yield part


def alike(unit_ND: Vectors, cosine: float) -> tuple[Places, Places]:
    """Pairs of rows with at least this cosine, each once."""
    rows = unit_ND.astype(np.float32)
    left, right = np.nonzero(np.triu(rows @ rows.T >= cosine, k=1))
    return left, right
