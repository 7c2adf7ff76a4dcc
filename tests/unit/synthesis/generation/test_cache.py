from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.core.records import QUERY_SCHEMA
from delia_ray.synthesis.filtering.dedup import _read_batches, split_rows
from delia_ray.synthesis.generation.cache import CacheIndex, CompletionCache, contains, read_sorted_keys
from delia_ray.synthesis.generation.generate import _count_new_tokens
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


def test_an_index_finds_what_any_number_of_files_hold_in_any_order(tmp_path: Path):
    cache = CompletionCache(tmp_path / "cache")
    index = CacheIndex(cache)
    for number in range(40):  # files of different sizes, so that some are sorted together and some are not
        cache.add(results(*range(100 * number, 100 * number + 1 + number * 7 % 13)))
        assert index.missing(np.array([100 * number, 100 * number + 50])).tolist() == [100 * number + 50]
    assert index.missing(np.arange(0, 4000, 100)).tolist() == []
    assert sorted(index.rows(np.array([3900, 0, 1700]), "text")["text"].to_pylist()) == ["text 0", "text 1700", "text 3900"]


def test_an_index_returns_a_row_as_often_as_files_hold_it(tmp_path: Path):
    cache = CompletionCache(tmp_path / "cache")
    index = CacheIndex(cache)
    for others in ((), (2,), (3, 4)):
        cache.add(results(1, *others))
    assert len(index.rows(np.array([1]), "text")) == 3


def test_the_keys_of_an_empty_cache_are_none(tmp_path: Path):
    assert read_sorted_keys(CompletionCache(tmp_path).files()).tolist() == []


def test_keys_that_several_files_hold_are_read_once(tmp_path: Path):
    cache = CompletionCache(tmp_path)
    cache.add(results(7, 2))
    cache.add(results(7, 5))
    assert read_sorted_keys(cache.files()).tolist() == [2, 5, 7]


def test_membership_of_more_keys_than_are_looked_up_at_once():
    keys = np.arange(2**20 + 5)
    assert contains(np.array([0, 2**20 + 4]), keys).nonzero()[0].tolist() == [0, 2**20 + 4]


def test_tokens_are_counted_once_a_row_and_only_of_new_rows_that_were_requested(tmp_path: Path):
    cache, failed = CompletionCache(tmp_path / "cache"), CompletionCache(tmp_path / "failed")
    cache.add(results(1, 2, 3, 9))
    cache.add(results(3, 4))
    failed.add(results(4, 5))
    requested, cached = np.array([1, 2, 3, 4, 5]), np.array([1, 9])
    assert _count_new_tokens((cache, failed), requested, cached) == (4, 8)


def test_the_texts_of_all_rows_are_never_in_memory_together(tmp_path: Path):
    text = "a" * 2**20
    for number in range(100):
        pq.write_table(
            pa.table({"text": [f"{number} {text}"]}), tmp_path / f"{number:03d}.parquet", compression="none", use_dictionary=False
        )
    before = peak = pa.total_allocated_bytes()
    for batch in _read_batches(tmp_path):
        assert all(len(text.casefold().split()) == 2 for text in batch["text"].to_pylist() for _ in range(5))
        peak = max(peak, pa.total_allocated_bytes())
    assert peak - before < 10 * 2**20
