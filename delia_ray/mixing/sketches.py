"""What finding duplicates needs of each row, in Arrow files that are memory-mapped: a column that is not looked at is not read."""

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

from delia_ray.mixing.meaning import Vectors, sides, unit_halves
from delia_ray.mixing.minhash import Bands, Hashes, Places, Shingles, buckets, shingles
from delia_ray.records import keyed_int

SKETCH_SCHEMA = pa.schema({"key": pa.int64(), "row_id": pa.string(), "shingles": pa.large_list(pa.uint64())})
"""And the row's bucket of each band: ``0``, ``1``, ... Of rows that are compared as vectors, ``vector`` stands for ``shingles``."""


def key_of(row_id: str) -> int:
    """The smallest of a cluster is kept."""
    return keyed_int(0, "duplicate", row_id)


def write_sketches(row_ids: Sequence[str], texts: Sequence[str], bands: Bands, folder: Path) -> Path:
    """One file of the rows that have a word, named by what is in it."""
    made = shingles(texts)
    spoken = np.flatnonzero(made.sizes)
    names = [name for name, size in zip(row_ids, made.sizes, strict=True) if size]
    made = replace(made, starts=np.concatenate([made.starts[spoken], made.starts[-1:]]))
    told = pa.LargeListArray.from_arrays(pa.array(made.starts), pa.array(made.hashes))
    return _write(names, {"shingles": told}, buckets(made, bands) if len(spoken) else (), folder)


def write_vectors(row_ids: Sequence[str], vectors_ND: NDArray[np.floating], planes: Bands, folder: Path) -> Path:
    """One file of the rows that have a direction, named by what is in it."""
    unit_ND = unit_halves(vectors_ND)
    led_N = np.abs(unit_ND).max(1, initial=0) > 0
    unit_ND = unit_ND[led_N]
    vector = pa.FixedSizeListArray.from_arrays(pa.array(unit_ND.ravel()), vectors_ND.shape[1])
    return _write(list(compress(row_ids, led_N)), {"vector": vector}, sides(unit_ND, planes), folder)


def _write(row_ids: Sequence[str], columns: Mapping[str, pa.Array], bands: Iterable[Hashes], folder: Path) -> Path:
    keys = [key_of(row_id) for row_id in row_ids]
    named = {"key": pa.array(keys, pa.int64()), "row_id": pa.array(row_ids, pa.string()), **columns}
    table = pa.table(named | {str(band): pa.array(bucket) for band, bucket in enumerate(bands)})
    return write_arrow(table, folder / f"{min(keys, default=0):016x}-{len(keys)}.arrow")


def write_arrow(table: pa.Table, file: Path) -> Path:
    """``table`` in one record batch; the file is there whole or not at all."""
    unfinished = file.with_suffix(f".{os.getpid()}")
    with pa.OSFile(str(unfinished), "wb") as stream, ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return unfinished.replace(file)


def read_arrow(file: Path) -> pa.Table:
    """The table in ``file``, memory-mapped."""
    return ipc.open_file(pa.memory_map(str(file))).read_all()


@dataclass(frozen=True)
class Sketches:
    """All sketches, a row of them by its place."""

    files: Sequence[Path]

    @cached_property
    def _parts(self) -> list[pa.Table]:
        return [table for table in map(read_arrow, self.files) if len(table)]

    @cached_property
    def _starts(self) -> Places:
        return np.concatenate([[0], np.cumsum([len(part) for part in self._parts], dtype=np.int64)])

    def column(self, name: str) -> np.ndarray:
        """All of a number column."""
        return np.concatenate([part[name].to_numpy() for part in self._parts] or [np.empty(0, dtype=np.int64)])

    def take(self, name: str, places: Places) -> pa.Array:
        """A column at ``places``, which ascend."""
        bounds = np.searchsorted(places, self._starts)
        taken = [
            part[name].chunk(0).take(pa.array(places[low:high] - start))
            for part, start, low, high in zip(self._parts, self._starts, bounds, bounds[1:], strict=False)
            if low < high
        ]
        return pa.concat_arrays(taken) if taken else pa.array([], SKETCH_SCHEMA.field(name).type)

    def shingles(self, places: Places) -> Shingles:
        """Of the rows at ``places``, which ascend."""
        taken = self.take("shingles", places)
        return Shingles(taken.values.to_numpy(), taken.offsets.to_numpy())

    def vectors(self, places: Places) -> Vectors:
        """Of the rows at ``places``, which ascend."""
        return self.take("vector", places).flatten().to_numpy().reshape(len(places), -1)
