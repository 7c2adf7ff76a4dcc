"""The completion cache: generated rows in Parquet files, found by the key of their request."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from delia_ray.core.storage.objects import list_files
from delia_ray.core.storage.tables import read_table, write_table
from delia_ray.synthesis.requests import RESULT_SCHEMA

Keys = NDArray[np.int64]
_SLICE = 2**20


def contains(sorted_keys: Keys, keys: Keys) -> NDArray[np.bool_]:
    """Check which of ``keys`` are among ``sorted_keys``; a byte a key."""
    found = np.zeros(len(keys), dtype=np.bool_)
    if len(sorted_keys):
        for start in range(0, len(keys), _SLICE):
            part = keys[start : start + _SLICE]
            found[start : start + _SLICE] = sorted_keys[find_positions(sorted_keys, part)] == part
    return found


def find_positions(sorted_keys: Keys, keys: Keys) -> NDArray[np.intp]:
    """Return for each key its first position in ``sorted_keys``, which is not empty; any position if it is not there."""
    return np.searchsorted(sorted_keys, keys).clip(max=len(sorted_keys) - 1)


def read_sorted_keys(files: Iterable[Path]) -> Keys:
    """Read the distinct keys of all rows in ``files``; 8 bytes a row, and twice that while they are read."""
    keys = np.concatenate([np.empty(0, dtype=np.int64), *(read_table(file, columns=["key"])["key"].to_numpy() for file in files)])
    keys.sort()  # np.unique would hash them, which takes several times the memory
    is_first = np.ones(len(keys), dtype=np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    return keys if is_first.all() else keys[is_first]


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
        """Complete files, by name."""
        return list_files(self._folder, "*.parquet")


@dataclass(frozen=True)
class _Run:
    """Keys in ascending order, each with the index of its file."""

    keys: Keys
    files: NDArray[np.int32]


def _merge(runs: list[_Run]) -> _Run:
    keys, files = np.concatenate([run.keys for run in runs]), np.concatenate([run.files for run in runs])
    order = np.argsort(keys, kind="stable")
    return _Run(keys[order], files[order])


class CacheIndex:
    """Finds rows by key in caches that grow; 12 bytes a row. Each call looks for new files.

    Keys are kept in runs, each more than twice as long as the next, so that a new file does not sort the keys of all others again.
    """

    def __init__(self, *caches: CompletionCache):
        self._caches = caches
        self._files: list[Path] = []
        self._known: set[Path] = set()
        self._runs: list[_Run] = []

    def missing(self, keys: Keys) -> Keys:
        """Those of ``keys`` that no cache holds."""
        self._refresh()
        for run in self._runs:
            keys = keys[~contains(run.keys, keys)]
        return keys

    def rows(self, keys: Keys, *columns: str) -> pa.Table:
        """Rows with these keys. A row that was generated twice is returned twice."""
        self._refresh()
        tables = [read_table(self._files[index], columns=["key", *columns]) for index in self._find_files(keys)]
        table = pa.concat_tables([RESULT_SCHEMA.empty_table().select(["key", *columns]), *tables])
        return table.filter(pa.array(np.isin(table["key"].to_numpy(), keys))).drop_columns(["key"])

    def _find_files(self, keys: Keys) -> NDArray[np.int32]:
        found = [np.empty(0, dtype=np.int32)]
        for run in self._runs:
            start, end = np.searchsorted(run.keys, keys), np.searchsorted(run.keys, keys, side="right")
            while (is_inside := start < end).any():  # again for keys that several files hold
                start, end = start[is_inside], end[is_inside]
                found.append(run.files[start])
                start = start + 1
        return np.unique(np.concatenate(found))

    def _refresh(self) -> None:
        new = [file for cache in self._caches for file in cache.files() if file not in self._known]
        if not new:
            return
        keys = [read_sorted_keys([file]) for file in new]
        runs = [_Run(part, np.full(len(part), index, dtype=np.int32)) for index, part in enumerate(keys, len(self._files))]
        self._files += new
        self._known.update(new)
        run = _merge(runs)
        while self._runs and len(self._runs[-1].keys) <= 2 * len(run.keys):
            run = _merge([self._runs.pop(), run])
        self._runs.append(run)
