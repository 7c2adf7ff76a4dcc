"""Judged rows go two ways: kept, or set aside with the reason."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from delia_ray.records import REJECT_SCHEMA, row_id


def set_aside(judged: Path, out: Path, step: str, schema: pa.Schema, keep: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, int]:
    """Stream the rows of ``judged`` into ``out/kept`` (as ``keep`` shapes them) and ``out/rejects``.

    Of rows with the same text in the same ``scope``, the one with the smallest id is kept; of one row that stands there twice,
    the first. Only ids and text hashes are held in memory.

    Returns:
        Counts: rows kept and rejected, and tokens generated for either.
    """
    repeats = _repeats(judged)
    counts = {"rows": 0, "rejected": 0, "prompt_tokens": 0, "answer_tokens": 0}
    for name in ("kept", "rejects"):
        (out / name).mkdir()
    with (
        pq.ParquetWriter(out / "kept" / "0.parquet", schema) as kept,
        pq.ParquetWriter(out / "rejects" / "0.parquet", REJECT_SCHEMA) as rejects,
    ):
        seen: set[str] = set()
        for batch in _batches(judged):
            rows = [row for row in batch if row["row_id"] not in seen and not seen.add(row["row_id"])]
            for row in rows:
                row["reason"] = row["reason"] or ("duplicate" if row["row_id"] in repeats else "")
                counts["prompt_tokens"] += row["prompt_tokens"]
                counts["answer_tokens"] += row["answer_tokens"]
            good = [keep(row) for row in rows if not row["reason"]]
            bad = [{"row_id": row["row_id"], "step": step, "reason": row["reason"], "text": row["text"]} for row in rows if row["reason"]]
            kept.write_table(pa.Table.from_pylist(good, schema=schema))
            rejects.write_table(pa.Table.from_pylist(bad, schema=REJECT_SCHEMA))
            counts["rows"] += len(good)
            counts["rejected"] += len(bad)
    return counts


def _repeats(judged: Path) -> set[str]:
    """Ids of rows whose text another good row with a smaller id has too."""
    seen: set[str] = set()
    first: dict[str, str] = {}
    repeats: set[str] = set()
    for rows in _batches(judged, ["row_id", "text", "reason", "scope"]):
        for row in rows:
            if row["reason"] or row["row_id"] in seen:
                continue
            seen.add(row["row_id"])
            key = row_id(row["scope"], " ".join(row["text"].casefold().split()))
            winner = min(first.get(key, row["row_id"]), row["row_id"])
            if key in first:
                repeats.add(max(first[key], row["row_id"]))
            first[key] = winner
    return repeats


def _batches(judged: Path, columns: list[str] | None = None) -> Iterator[list[dict[str, Any]]]:
    dataset = pads.dataset(judged, format="parquet")
    for batch in dataset.to_batches(columns=columns):
        yield batch.to_pylist()
