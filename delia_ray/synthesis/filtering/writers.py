"""Writers of filtered queries to Parquet: kept rows and rejects."""

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.core.records import QUERY_SCHEMA, REJECT_SCHEMA
from delia_ray.core.storage.objects import list_files, locate

FilteredRow = tuple[Literal["kept", "rejects"], Mapping[str, Any]]
"""The folder that the row belongs to, and the row."""
_SCHEMAS = {"kept": QUERY_SCHEMA, "rejects": REJECT_SCHEMA}
_BATCH_ROWS = 10_000


def write_queries(rows: Iterable[FilteredRow], out: Path) -> dict[str, int]:
    """Stream kept queries and rejects into ``out/kept`` and ``out/rejects``.

    Returns:
        Counts: rows kept and rejected.
    """
    counts = dict.fromkeys(_SCHEMAS, 0)
    for name in _SCHEMAS:
        (out / name).mkdir(parents=True)
    with (
        pq.ParquetWriter(out / "kept" / "0.parquet", QUERY_SCHEMA) as kept,
        pq.ParquetWriter(out / "rejects" / "0.parquet", REJECT_SCHEMA) as rejects,
    ):
        writers = {"kept": kept, "rejects": rejects}
        stream = iter(rows)
        while batch := list(islice(stream, _BATCH_ROWS)):
            for name, schema in _SCHEMAS.items():
                records = [dict(row) for folder, row in batch if folder == name]
                counts[name] += len(records)
                writers[name].write_table(pa.Table.from_pylist(records, schema=schema))
    return {"rows": counts["kept"], "rejected": counts["rejects"]}


def read_rows(folder: Path, columns: list[str] | None = None) -> Iterable[dict[str, Any]]:
    """Yield the rows of a folder that ``write_queries`` or a stage wrote, reading a batch at a time."""
    for file in list_files(folder, "*.parquet"):
        name, store = locate(file)
        with pq.ParquetFile(name, filesystem=store) as reader:
            for batch in reader.iter_batches(_BATCH_ROWS, columns=columns):
                yield from batch.to_pylist()
