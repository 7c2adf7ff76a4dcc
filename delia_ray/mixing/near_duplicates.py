"""Find near-duplicate rows of a pool on a Ray cluster.

One task for each band and partition of the buckets finds the similar pairs, and one task joins all pairs to clusters. The driver sees only
file names and counts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray

from delia_ray.core.storage.objects import remove
from delia_ray.core.storage.transfer import fetch, publish
from delia_ray.mixing.config import Deduplicate
from delia_ray.mixing.minhash import ROWS_AT_ONCE, Bands, Indices, choose_bands, find_clusters, jaccard, pair_candidates
from delia_ray.mixing.semantic_dedup import choose_planes, find_similar_pairs, split_buckets
from delia_ray.mixing.sketches import Sketches, hash_row_id, read_arrow, write_arrow, write_sketches, write_vectors
from delia_ray.ray_runtime.resources import get_one_core_options
from delia_ray.ray_runtime.tasks import get_result

_ROWS_PER_PARTITION = 8_000_000
_ROWS_PER_SKETCH = 2**14


@dataclass(frozen=True)
class Duplicates:
    """The rows that duplicate another row, as a file, and how many there are.

    Attributes:
        file: Arrow; ``row_id`` of each duplicate, its ``key``, ascending, and ``kept``, the id of the row that is kept instead.
        sizes: cluster size -> number of clusters of that size, from 2 rows on.
        relation: how a duplicate relates to the row that is kept, in words: ``near-duplicate of``.
    """

    file: Path
    sizes: dict[int, int]
    relation: str

    @property
    def rows(self) -> int:
        """Number of duplicate rows."""
        return sum((size - 1) * count for size, count in self.sizes.items())

    def find_reasons(self, row_ids: Sequence[str]) -> list[str]:
        """Return the reason to reject each row; empty for a row that is no duplicate."""
        table = read_arrow(self.file)
        keys, searched = table["key"].to_numpy(), np.array([hash_row_id(row_id) for row_id in row_ids], dtype=np.int64)
        indices = np.searchsorted(keys, searched)
        duplicates = np.flatnonzero(keys[np.minimum(indices, len(keys) - 1)] == searched) if len(keys) else []
        reasons = [""] * len(row_ids)
        for row in duplicates:
            reasons[row] = f"{self.relation} {table['kept'][int(indices[row])]}"
        return reasons


def find_duplicates(rows: ray.data.Dataset, config: Deduplicate, scratch: Path) -> Duplicates:
    """Find near-duplicates by MinHash and LSH.

    Rows whose texts reach ``config.similarity``, directly or through other rows, form a cluster. All of them but the one with the
    smallest key are duplicates.

    Args:
        rows: columns ``row_id``, unique, and ``text``.
        config: the similarity.
        scratch: a folder that every node can access; it takes 8 bytes a word and 0.2 KB a row. A task holds some 50 bytes for each of
            8 million rows.
    """
    bands = choose_bands(config.similarity)
    sketch, find_pairs = partial(_sketch_texts, bands, scratch), partial(_find_text_pairs, config.similarity)
    return _find_by_sketches(rows, sketch, bands, find_pairs, "near-duplicate of", scratch)


def find_semantic_duplicates(rows: ray.data.Dataset, count: int, cosine: float, scratch: Path) -> Duplicates:
    """Find duplicates as ``find_duplicates`` does, of rows whose vectors have at least this cosine (SemDeDup, arXiv 2303.09540).

    Args:
        rows: columns ``row_id``, unique, and ``vector``.
        count: approximate number of rows.
        cosine: the similarity.
        scratch: a folder that every node can access; it takes 2 bytes a dimension and 0.2 KB a row.
    """
    planes = choose_planes(cosine, count)
    sketch, find_pairs = partial(_sketch_vectors, planes, scratch), partial(_find_vector_pairs, cosine)
    return _find_by_sketches(rows, sketch, planes, find_pairs, "says the same as", scratch)


_Sketch = Callable[[pa.Table], Path]
"""Writes one file of the sketches of some rows."""
_FindPairs = Callable[[Sketches, NDArray[np.uint64], Indices], Iterator[NDArray[np.int64]]]
"""Sketches, the buckets of some rows and the indices of these rows -> pairs of indices of similar rows."""


def _find_by_sketches(
    rows: ray.data.Dataset, sketch: _Sketch, bands: Bands, find_pairs: _FindPairs, relation: str, scratch: Path
) -> Duplicates:
    remove(scratch)
    scratch.mkdir(parents=True)
    sketched = rows.map_batches(
        partial(_sketch_batch, sketch), batch_size=_ROWS_PER_SKETCH, batch_format="pyarrow", **get_one_core_options()
    )
    written = sorted((row["file"], row["rows"]) for row in sketched.take_all())
    sketches = Sketches([Path(file) for file, _ in written])
    partitions = 1 + sum(count for _, count in written) // _ROWS_PER_PARTITION
    task = _make_task(_write_pairs)
    pairs = [
        task.remote(sketches, find_pairs, band, partition, partitions, scratch)
        for band in range(bands.count)
        for partition in range(partitions)
    ]
    return get_result(_make_task(_write_duplicates).remote(sketches, get_result(pairs), relation, scratch))


def _make_task(function: Any) -> Any:
    return ray.remote(function).options(**get_one_core_options())


def _sketch_batch(sketch: _Sketch, rows: pa.Table) -> pa.Table:
    return pa.table({"file": [str(sketch(rows))], "rows": [len(rows)]})


def _sketch_texts(bands: Bands, scratch: Path, rows: pa.Table) -> Path:
    return write_sketches(rows["row_id"].to_pylist(), rows["text"].to_pylist(), bands, scratch)


def _sketch_vectors(planes: Bands, scratch: Path, rows: pa.Table) -> Path:
    return write_vectors(rows["row_id"].to_pylist(), np.stack(rows["vector"].to_numpy()), planes, scratch)


def _write_pairs(sketches: Sketches, find_pairs: _FindPairs, band: int, partition: int, partitions: int, scratch: Path) -> Path:
    """Write the pairs of similar rows that share a bucket of ``band``.

    A partition takes the buckets of one remainder modulo ``partitions``.
    """
    bucket = sketches.read_column(str(band)).astype(np.uint64)
    indices = np.flatnonzero(bucket % np.uint64(partitions) == partition) if partitions > 1 else np.arange(len(bucket))
    file = scratch / f"links-{band}-{partition}.npy"
    scratch.mkdir(parents=True, exist_ok=True)
    np.save(file, np.concatenate([np.empty((0, 2), dtype=np.int64), *find_pairs(sketches, bucket[indices], indices)]))
    publish(file)
    return file


def _find_text_pairs(similarity: float, sketches: Sketches, bucket: NDArray[np.uint64], indices: Indices) -> Iterator[NDArray[np.int64]]:
    left, right = (indices[side] for side in pair_candidates(bucket, sketches.read_column("key")[indices]))
    for start in range(0, len(left), ROWS_AT_ONCE):
        pairs = np.stack([left[start : start + ROWS_AT_ONCE], right[start : start + ROWS_AT_ONCE]], axis=1)
        rows, numbers = np.unique(pairs, return_inverse=True)
        first, second = numbers.reshape(pairs.shape).T
        yield pairs[jaccard(sketches.read_shingles(rows), first, second) >= similarity]


def _find_vector_pairs(cosine: float, sketches: Sketches, bucket: NDArray[np.uint64], indices: Indices) -> Iterator[NDArray[np.int64]]:
    for part in split_buckets(bucket, sketches.read_column("key")[indices]):
        rows = np.sort(indices[part])
        left, right = find_similar_pairs(sketches.read_vectors(rows), cosine)
        yield np.stack([rows[left], rows[right]], axis=1)


def _write_duplicates(sketches: Sketches, pair_files: Sequence[Path], relation: str, scratch: Path) -> Duplicates:
    """Join the pairs to clusters, and write which row duplicates which."""
    pairs = np.concatenate([np.load(fetch(file)) for file in pair_files])
    rows, numbers = np.unique(pairs, return_inverse=True)
    order = np.argsort(sketches.take("key", rows).to_numpy())
    ranks = np.argsort(order)
    left, right = ranks[numbers.reshape(pairs.shape)].T
    roots = find_clusters(left, right, len(rows))
    duplicates = np.flatnonzero(roots != np.arange(len(roots)))
    columns = {
        "key": sketches.take("key", rows).take(pa.array(order[duplicates])),
        "row_id": sketches.take("row_id", rows).take(pa.array(order[duplicates])),
        "kept": sketches.take("row_id", rows).take(pa.array(order[roots[duplicates]])),
    }
    sizes, counts = np.unique(np.unique(roots, return_counts=True)[1], return_counts=True)
    file = write_arrow(pa.table(columns), scratch / "repeats.arrow")
    return Duplicates(file, dict(zip(sizes.tolist(), counts.tolist(), strict=True)), relation)
