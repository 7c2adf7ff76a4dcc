"""Splitting of filtered rows into kept rows and rejects, with removal of exact duplicates."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from delia_ray.core.records import REJECT_SCHEMA, make_row_id
from delia_ray.core.storage.objects import list_files, locate
from delia_ray.core.storage.transfer import output_folder

_BATCH_ROWS = 2**14


def split_rows(
    filtered: Path, out: Path, step: str, schema: pa.Schema, to_record: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, int]:
    """Stream the rows of ``filtered`` into ``out/kept`` (converted by ``to_record`` to ``schema``) and ``out/rejects``.

    Of rows with the same text in the same ``scope``, the one with the smallest id is kept; of a row that occurs twice, the first.
    Only ids and text hashes are held in memory, as arrays: some 32 bytes a row, and up to 90 while they are sorted.

    Returns:
        Counts: rows kept and rejected, and tokens generated for either.
    """
    with output_folder(out):
        return _split_rows(filtered, out, step, schema, to_record)


def _split_rows(
    filtered: Path, out: Path, step: str, schema: pa.Schema, to_record: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, int]:
    repeated, duplicate = _find_duplicates(filtered)
    counts = {"rows": 0, "rejected": 0, "prompt_tokens": 0, "answer_tokens": 0}
    for name in ("kept", "rejects"):
        (out / name).mkdir()
    with (
        pq.ParquetWriter(out / "kept" / "0.parquet", schema) as kept,
        pq.ParquetWriter(out / "rejects" / "0.parquet", REJECT_SCHEMA) as rejects,
    ):
        start = 0
        for batch in _read_batches(filtered):
            span = slice(start, start := start + len(batch))
            rows = [
                row | {"reason": row["reason"] or ("duplicate" if is_duplicate else "")}
                for row, is_repeated, is_duplicate in zip(batch.to_pylist(), repeated[span], duplicate[span], strict=True)
                if not is_repeated
            ]
            for tokens in ("prompt_tokens", "answer_tokens"):
                counts[tokens] += sum(row[tokens] for row in rows)
            records = [to_record(row) for row in rows if not row["reason"]]
            rejected = [
                {"row_id": row["row_id"], "step": step, "reason": row["reason"], "text": row["text"]} for row in rows if row["reason"]
            ]
            kept.write_table(pa.Table.from_pylist(records, schema=schema))
            rejects.write_table(pa.Table.from_pylist(rejected, schema=REJECT_SCHEMA))
            counts["rows"] += len(records)
            counts["rejected"] += len(rejected)
    return counts


def _find_duplicates(filtered: Path) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for each row whether its id occurred before, and whether a row that passed with a smaller id has its text and scope."""
    ids, texts, passed = [np.empty(0, "S1")], [np.empty(0, "S1")], [np.empty(0, np.bool_)]
    for batch in _read_batches(filtered, ["row_id", "text", "reason", "scope"]):
        ids.append(np.array(batch["row_id"].to_pylist(), dtype=np.bytes_))
        scoped = zip(batch["scope"].to_pylist(), batch["text"].to_pylist(), strict=True)
        texts.append(np.array([make_row_id(scope, " ".join(text.casefold().split())) for scope, text in scoped], dtype=np.bytes_))
        passed.append(np.array([not reason for reason in batch["reason"].to_pylist()], dtype=np.bool_))
    id_N, text_N = np.concatenate(ids), np.concatenate(texts)
    repeated = ~_mark_first(id_N)
    duplicate = np.zeros(len(id_N), dtype=np.bool_)
    candidates = np.flatnonzero(np.concatenate(passed) & ~repeated)
    by_id = candidates[np.argsort(id_N[candidates], kind="stable")]
    duplicate[by_id] = ~_mark_first(text_N[by_id])
    return repeated, duplicate


def _mark_first(values: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Mark the first occurrence of each value."""
    order = np.argsort(values, kind="stable")
    first = np.ones(len(values), dtype=np.bool_)
    first[order[1:]] = values[order[1:]] != values[order[:-1]]
    return first


def _read_batches(filtered: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    # One file at a time: a scanner of the whole folder reads ahead as far as the consumer is slow, and holds the texts of all rows.
    for path in list_files(filtered, "*.parquet"):
        name, store = locate(path)
        with pq.ParquetFile(name, filesystem=store) as file:
            yield from file.iter_batches(_BATCH_ROWS, columns=columns)
