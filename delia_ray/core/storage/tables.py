"""Parquet files on disk, and in a bucket: read and written in place, without a copy on this node."""

import os
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from delia_ray.core.storage.objects import list_files, locate, write_bytes
from delia_ray.core.storage.paths import find_place, is_remote
from delia_ray.core.storage.stores import ask


def read_table(path: Path, **options: Any) -> pa.Table:
    """Read a file, or all files of a folder, with ``pyarrow.parquet.read_table``'s options."""
    if not is_remote(path):
        return pq.read_table(path, **options)
    place = find_place(path)
    return ask(place, lambda store: pq.read_table(place.key, filesystem=store, **options))


def write_table(table: pa.Table, file: Path) -> None:
    """Write one file, whole or not at all."""
    if is_remote(file):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        write_bytes(file, sink.getvalue().to_pybytes())
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.stem}.{uuid.uuid4().hex}")
    pq.write_table(table, scratch)
    os.replace(scratch, file)


def open_dataset(folder: Path) -> pads.Dataset:
    """Open the files of a folder as one data set."""
    name, store = locate(folder)
    return pads.dataset(name, format="parquet", filesystem=store)


def count_rows(folder: Path) -> int:
    """Count the rows of all files of a folder, from their footers."""
    return sum(_count_rows_of_file(file) for file in list_files(folder, "*.parquet"))


def _count_rows_of_file(file: Path) -> int:
    if not is_remote(file):
        return pq.read_metadata(file).num_rows
    place = find_place(file)
    return ask(place, lambda store: pq.read_metadata(place.key, filesystem=store).num_rows)
