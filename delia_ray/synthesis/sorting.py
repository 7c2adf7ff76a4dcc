"""Judged rows go two ways: kept, or set aside with the reason."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from numpy.typing import NDArray

from delia_ray.records import REJECT_SCHEMA, row_id

_ROWS_AT_ONCE = 2**14


def set_aside(judged: Path, out: Path, step: str, schema: pa.Schema, keep: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, int]:
    """Stream the rows of ``judged`` into ``out/kept`` (as ``keep`` shapes them) and ``out/rejects``.

    Of rows with the same text in the same ``scope``, the one with the smallest id is kept; of one row that stands there twice,
    the first. Only ids and text hashes are held in memory, as arrays: some 32 bytes a row, and as much again while they are sorted.

    Returns:
        Counts: rows kept and rejected, and tokens generated for either.
    """
    again, duplicate = _repeats(judged)
    counts = {"rows": 0, "rejected": 0, "prompt_tokens": 0, "answer_tokens": 0}
    for name in ("kept", "rejects"):
        (out / name).mkdir()
    with (
        pq.ParquetWriter(out / "kept" / "0.parquet", schema) as kept,
        pq.ParquetWriter(out / "rejects" / "0.parquet", REJECT_SCHEMA) as rejects,
    ):
        place = 0
        for batch in _batches(judged):
            here = slice(place, place := place + len(batch))
            rows = [
                row | {"reason": row["reason"] or ("duplicate" if repeats else "")}
                for row, twice, repeats in zip(batch.to_pylist(), again[here], duplicate[here], strict=True)
                if not twice
            ]
            for tokens in ("prompt_tokens", "answer_tokens"):
                counts[tokens] += sum(row[tokens] for row in rows)
            good = [keep(row) for row in rows if not row["reason"]]
            bad = [{"row_id": row["row_id"], "step": step, "reason": row["reason"], "text": row["text"]} for row in rows if row["reason"]]
            kept.write_table(pa.Table.from_pylist(good, schema=schema))
            rejects.write_table(pa.Table.from_pylist(bad, schema=REJECT_SCHEMA))
            counts["rows"] += len(good)
            counts["rejected"] += len(bad)
    return counts


def _repeats(judged: Path) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each row: whether it stood there before, and whether a good row with a smaller id has its text and scope."""
    ids, texts, good = [np.empty(0, "S1")], [np.empty(0, "S1")], [np.empty(0, np.bool_)]
    for batch in _batches(judged, ["row_id", "text", "reason", "scope"]):
        ids.append(np.array(batch["row_id"].to_pylist(), dtype=np.bytes_))
        scoped = zip(batch["scope"].to_pylist(), batch["text"].to_pylist(), strict=True)
        texts.append(np.array([row_id(scope, " ".join(text.casefold().split())) for scope, text in scoped], dtype=np.bytes_))
        good.append(np.array([not reason for reason in batch["reason"].to_pylist()], dtype=np.bool_))
    row, text = np.concatenate(ids), np.concatenate(texts)
    again = ~_first(row)
    duplicate = np.zeros(len(row), dtype=np.bool_)
    judged_good = np.flatnonzero(np.concatenate(good) & ~again)
    by_id = judged_good[np.argsort(row[judged_good], kind="stable")]
    duplicate[by_id] = ~_first(text[by_id])
    return again, duplicate


def _first(values: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Where a value stands for the first time."""
    order = np.argsort(values, kind="stable")
    first = np.ones(len(values), dtype=np.bool_)
    first[order[1:]] = values[order[1:]] != values[order[:-1]]
    return first


def _batches(judged: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    yield from pads.dataset(judged, format="parquet").to_batches(columns=columns, batch_size=_ROWS_AT_ONCE)
