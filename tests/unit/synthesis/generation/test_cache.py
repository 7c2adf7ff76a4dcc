from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.core.records import QUERY_SCHEMA
from delia_ray.synthesis.filtering.dedup import split_rows
from delia_ray.synthesis.generation.cache import CacheIndex, CompletionCache, contains, read_sorted_keys
from delia_ray.synthesis.requests import RESULT_SCHEMA


def results(*keys: int, text: str = "") -> pa.Table:
    rows = [
        {"key": key, "row_id": f"row-{key}", "text": text or f"text {key}", "finished": True, "prompt_tokens": 1, "answer_tokens": 2,
         "topic": "t", "query": "", "error": ""}
        for key in keys
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=RESULT_SCHEMA)


def test_the_same_rows_written_twice_are_one_file(tmp_path: Path):
    cache = CompletionCache(tmp_path / "cache")
    cache.add(results(3, 1))
    cache.add(results(1, 3))
    cache.add(results(2))
    cache.add(results())
    assert len(cache.files()) == 2
    assert read_sorted_keys(cache.files()).tolist() == [1, 2, 3]


def test_an_incomplete_file_is_ignored(tmp_path: Path):
    cache = CompletionCache(tmp_path)
    cache.add(results(1))
    (tmp_path / ".cut.0").write_bytes(b"PAR1")
    assert read_sorted_keys(cache.files()).tolist() == [1]


def test_membership():
    assert contains(np.array([2, 5, 9]), np.array([1, 2, 9, 10])).tolist() == [False, True, True, False]
    assert contains(np.array([], dtype=np.int64), np.array([1])).tolist() == [False]


def test_a_row_that_was_generated_twice_is_kept_once(tmp_path: Path):
    filtered, out = tmp_path / "filtered", tmp_path / "out"
    filtered.mkdir()
    out.mkdir()
    for number, table in enumerate((results(1, 2), results(2, 3))):
        for name in ("reason", "scope"):
            table = table.append_column(name, pa.array([""] * 2))
        pq.write_table(table, filtered / f"{number}.parquet")
    to_query = lambda row: {"query_id": row["row_id"], "topic": row["topic"], "query": row["text"], "reference": None}  # noqa: E731
    counts = split_rows(filtered, out, "query", QUERY_SCHEMA, to_query)
    assert counts["rows"] == 3 and counts["rejected"] == 0
    assert sorted(pq.read_table(out / "kept")["query_id"].to_pylist()) == ["row-1", "row-2", "row-3"]


def test_an_index_finds_rows_in_files_that_were_added_later(tmp_path: Path):
    cache = CompletionCache(tmp_path / "cache")
    index = CacheIndex(cache, CompletionCache(tmp_path / "failed"))
    keys = np.array([5, 2, 9])
    assert index.missing(keys).tolist() == [5, 2, 9]
    cache.add(results(9, 1))
    cache.add(results(2, 3))
    assert index.missing(keys).tolist() == [5]
    assert sorted(index.rows(keys, "text")["text"].to_pylist()) == ["text 2", "text 9"]
