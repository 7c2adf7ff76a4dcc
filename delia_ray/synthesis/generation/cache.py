"""The completion cache: generated rows in Parquet files, found by the key of their request."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from delia_ray.core.storage.objects import list_files
from delia_ray.core.storage.tables import read_table, write_table
from delia_ray.synthesis.requests import RESULT_SCHEMA

Keys = NDArray[np.int64]


def contains(sorted_keys: Keys, keys: Keys) -> NDArray[np.bool_]:
    """Check which of ``keys`` are among ``sorted_keys``."""
    if not len(sorted_keys):
        return np.zeros(len(keys), dtype=bool)
    positions = np.searchsorted(sorted_keys, keys).clip(max=len(sorted_keys) - 1)
    return sorted_keys[positions] == keys


def read_sorted_keys(files: Iterable[Path]) -> Keys:
    """Read the distinct keys of all rows in ``files``; 8 bytes a row."""
    parts = [read_table(file, columns=["key"])["key"].to_numpy() for file in files]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)


class CompletionCache:
    """Generated rows in Parquet files. It only grows; several runs may share it, and any number of processes may write to it.

    Files are written atomically and named by the keys of their rows, so that a task that is retried writes the same file.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def add(self, rows: pa.Table) -> None:
        """Store ``rows``, which have ``RESULT_SCHEMA``."""
        if not rows.num_rows:
            return
        name = hashlib.blake2b(np.sort(rows["key"].to_numpy()).tobytes(), digest_size=12).hexdigest()
        write_table(rows.cast(RESULT_SCHEMA), self._folder / f"{name}.parquet")

    def files(self) -> list[Path]:
        """Complete files."""
        return list_files(self._folder, "*.parquet")


class CacheIndex:
    """Finds rows by key in caches that grow; 12 bytes a row. Each call looks for new files."""

    def __init__(self, *caches: CompletionCache):
        self._caches = caches
        self._files: list[Path] = []
        self._keys: Keys = np.empty(0, dtype=np.int64)
        self._file_indices: NDArray[np.int32] = np.empty(0, dtype=np.int32)

    def missing(self, keys: Keys) -> Keys:
        """Those of ``keys`` that no cache holds."""
        self._refresh()
        return keys[~contains(self._keys, keys)]

    def rows(self, keys: Keys, *columns: str) -> pa.Table:
        """Rows with these keys. A row that was generated twice is returned twice."""
        self._refresh()
        indices = np.unique(self._file_indices[np.isin(self._keys, keys)])
        tables = [read_table(self._files[index], columns=["key", *columns]) for index in indices]
        table = pa.concat_tables([RESULT_SCHEMA.empty_table().select(["key", *columns]), *tables])
        return table.filter(pa.array(np.isin(table["key"].to_numpy(), keys))).drop_columns(["key"])

    def _refresh(self) -> None:
        known = set(self._files)
        new = [file for cache in self._caches for file in cache.files() if file not in known]
        if not new:
            return
        parts = [read_sorted_keys([file]) for file in new]
        indices = [np.full(len(part), index, dtype=np.int32) for index, part in enumerate(parts, len(self._files))]
        keys, file_indices = np.concatenate([self._keys, *parts]), np.concatenate([self._file_indices, *indices])
        order = np.argsort(keys, kind="stable")
        self._keys, self._file_indices = keys[order], file_indices[order]
        self._files += new
