from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.records import QUERY_SCHEMA
from delia_ray.synthesis.draws import DRAW_SCHEMA, DRAWN_SCHEMA, PADDING, DrawIndex, DrawStore, contains, new_draw, padded, sorted_keys
from delia_ray.synthesis.sorting import set_aside


def drawn(*keys: int, text: str = "") -> pa.Table:
    rows = [
        {"key": key, "row_id": f"row-{key}", "text": text or f"text {key}", "finished": True, "prompt_tokens": 1, "answer_tokens": 2,
         "topic": "t", "query": "", "error": ""}
        for key in keys
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=DRAWN_SCHEMA)


def test_the_key_names_everything_that_decides_the_text():
    base = {
        "model": "m",
        "row_id": "r",
        "prompt": "p",
        "prompt_ids": [5],
        "sampling": {"seed": 1, "temperature": 0.7},
        "topic": "t",
        "query": "q",
    }
    changed = [{name: "other"} for name in ("model", "row_id", "prompt", "topic", "query")] + [
        {"sampling": {"seed": 2, "temperature": 0.7}}
    ]
    keys = {new_draw(**{**base, **change})["key"] for change in [{}, *changed]}
    assert len(keys) == 7
    assert new_draw(**{**base, "sampling": {"temperature": 0.7, "seed": 1}})["key"] == new_draw(**base)["key"]


def test_the_same_rows_written_twice_are_one_file(tmp_path: Path):
    store = DrawStore(tmp_path / "draws")
    store.add(drawn(3, 1))
    store.add(drawn(1, 3))
    store.add(drawn(2))
    store.add(drawn())
    assert len(store.files()) == 2
    assert sorted_keys(store.files()).tolist() == [1, 2, 3]


def test_a_file_that_was_not_written_to_its_end_is_not_there(tmp_path: Path):
    store = DrawStore(tmp_path)
    store.add(drawn(1))
    (tmp_path / ".cut.0").write_bytes(b"PAR1")
    assert sorted_keys(store.files()).tolist() == [1]


def test_membership():
    assert contains(np.array([2, 5, 9]), np.array([1, 2, 9, 10])).tolist() == [False, True, True, False]
    assert contains(np.array([], dtype=np.int64), np.array([1])).tolist() == [False]


def test_a_row_that_was_judged_twice_is_kept_once(tmp_path: Path):
    judged, out = tmp_path / "judged", tmp_path / "out"
    judged.mkdir()
    out.mkdir()
    for number, table in enumerate((drawn(1, 2), drawn(2, 3))):
        for name in ("reason", "scope"):
            table = table.append_column(name, pa.array([""] * 2))
        pq.write_table(table, judged / f"{number}.parquet")
    keep = lambda row: {"query_id": row["row_id"], "topic": row["topic"], "query": row["text"], "reference": None}  # noqa: E731
    counts = set_aside(judged, out, "query", QUERY_SCHEMA, keep)
    assert counts["rows"] == 3 and counts["rejected"] == 0
    assert sorted(pq.read_table(out / "kept")["query_id"].to_pylist()) == ["row-1", "row-2", "row-3"]


def test_an_index_finds_rows_in_files_that_came_later(tmp_path: Path):
    store = DrawStore(tmp_path / "draws")
    index = DrawIndex(store, DrawStore(tmp_path / "failed"))
    keys = np.array([5, 2, 9])
    assert index.missing(keys).tolist() == [5, 2, 9]
    store.add(drawn(9, 1))
    store.add(drawn(2, 3))
    assert index.missing(keys).tolist() == [5]
    assert sorted(index.rows(keys, "text")["text"].to_pylist()) == ["text 2", "text 9"]


def test_a_batch_is_filled_up_with_rows_of_one_token_that_nobody_wants():
    draws = [new_draw("m", str(number), "p", [5], {"max_tokens": 64, "seed": 1}, topic="t") for number in range(5)]
    table = pa.Table.from_pylist(draws, schema=DRAW_SCHEMA)
    rows = padded(table, 4).to_pylist()
    assert rows[:5] == draws and len(rows) == 8
    assert {(row["key"], row["sampling"]) for row in rows[5:]} == {(PADDING, '{"max_tokens":1,"seed":1}')}
    assert padded(table, 5).equals(table) and not padded(table.slice(0, 0), 4).num_rows
