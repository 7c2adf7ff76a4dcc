"""Sketches of rows for deduplication, in Arrow files that are memory-mapped: a column is read only when it is used.

A sketch holds the key and the id of a row, its shingles or its vector, and its LSH bucket of each band.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from delia_ray.core.records import keyed_int
from delia_ray.core.storage.transfer import fetch, publish
from delia_ray.mixing.minhash import Bands, Hashes, Indices, Shingles, bucket_texts, hash_shingles
from delia_ray.mixing.semantic_dedup import Vectors, bucket_vectors, normalize_rows

SKETCH_SCHEMA = pa.schema({"key": pa.int64(), "row_id": pa.string(), "shingles": pa.large_list(pa.uint64())})
"""Further columns ``0``, ``1``, ... hold the row's bucket of each band. Sketches of vectors have ``vector`` instead of ``shingles``."""


def hash_row_id(row_id: str) -> int:
    """Hash a row's id to its key; of a cluster, the row with the smallest key is kept."""
    return keyed_int(0, "duplicate", row_id)


def write_sketches(row_ids: Sequence[str], texts: Sequence[str], bands: Bands, folder: Path) -> Path:
    """Write one file of MinHash sketches of the rows that have a word, named by its content."""
    shingles = hash_shingles(texts)
    not_empty = np.flatnonzero(shingles.sizes)
    kept_ids = [row_id for row_id, size in zip(row_ids, shingles.sizes, strict=True) if size]
    shingles = replace(shingles, starts=np.concatenate([shingles.starts[not_empty], shingles.starts[-1:]]))
    column = pa.LargeListArray.from_arrays(pa.array(shingles.starts), pa.array(shingles.hashes))
    return _write(kept_ids, {"shingles": column}, bucket_texts(shingles, bands) if len(not_empty) else (), folder)


def write_vectors(row_ids: Sequence[str], vectors_ND: NDArray[np.floating], planes: Bands, folder: Path) -> Path:
    """Write one file of sketches of the rows whose vector is not zero, named by its content."""
    unit_ND = normalize_rows(vectors_ND)
    not_zero_N = np.abs(unit_ND).max(1, initial=0) > 0
    unit_ND = unit_ND[not_zero_N]
    column = pa.FixedSizeListArray.from_arrays(pa.array(unit_ND.ravel()), vectors_ND.shape[1])
    return _write(list(compress(row_ids, not_zero_N)), {"vector": column}, bucket_vectors(unit_ND, planes), folder)


def _write(row_ids: Sequence[str], columns: Mapping[str, pa.Array], bands: Iterable[Hashes], folder: Path) -> Path:
    keys = [hash_row_id(row_id) for row_id in row_ids]
    named = {"key": pa.array(keys, pa.int64()), "row_id": pa.array(row_ids, pa.string()), **columns}
    table = pa.table(named | {str(band): pa.array(bucket) for band, bucket in enumerate(bands)})
    return write_arrow(table, folder / f"{min(keys, default=0):016x}-{len(keys)}.arrow")


def write_arrow(table: pa.Table, file: Path) -> Path:
    """Write ``table`` as one record batch, atomically: the file exists whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}")
    with pa.OSFile(str(unfinished), "wb") as stream, ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    unfinished.replace(file)
    publish(file)
    return file


def read_arrow(file: Path) -> pa.Table:
    """Open the table in ``file``, memory-mapped."""
    return ipc.open_file(pa.memory_map(str(fetch(file)))).read_all()


@dataclass(frozen=True)
class Sketches:
    """The sketches of all files as one table; a row is named by its index."""

    files: Sequence[Path]

    @cached_property
    def _parts(self) -> list[pa.Table]:
        return [table for table in map(read_arrow, self.files) if len(table)]

    @cached_property
    def _starts(self) -> Indices:
        return np.concatenate([[0], np.cumsum([len(part) for part in self._parts], dtype=np.int64)])

    def read_column(self, name: str) -> np.ndarray:
        """Read a whole column of numbers."""
        return np.concatenate([part[name].to_numpy() for part in self._parts] or [np.empty(0, dtype=np.int64)])

    def take(self, name: str, indices: Indices) -> pa.Array:
        """Read a column at ``indices``, which must ascend."""
        bounds = np.searchsorted(indices, self._starts)
        taken = [
            part[name].chunk(0).take(pa.array(indices[low:high] - start))
            for part, start, low, high in zip(self._parts, self._starts, bounds, bounds[1:], strict=False)
            if low < high
        ]
        return pa.concat_arrays(taken) if taken else pa.array([], SKETCH_SCHEMA.field(name).type)

    def read_shingles(self, indices: Indices) -> Shingles:
        """Read the shingles of the rows at ``indices``, which must ascend."""
        taken = self.take("shingles", indices)
        return Shingles(taken.values.to_numpy(), taken.offsets.to_numpy())

    def read_vectors(self, indices: Indices) -> Vectors:
        """Read the vectors of the rows at ``indices``, which must ascend."""
        return self.take("vector", indices).flatten().to_numpy().reshape(len(indices), -1)
