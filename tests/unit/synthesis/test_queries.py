import json
from pathlib import Path

import pytest

from delia_ray.errors import UserError
from delia_ray.synthesis.prompts import query_row, topics
from delia_ray.synthesis.queries import file_queries


def test_topics_take_turns_under_ids_of_their_own():
    rows = [query_row(index) for index in range(250)]
    assert [row["topic"] for row in rows[: len(topics())]] == [topic["topic"] for topic in topics()]
    assert len({row["topic"] for row in rows}) == len(topics()) >= 60
    assert len({row["query_id"] for row in rows}) == 250


CONTROL = ("<|im_start|>", "<|im_end|>")


def write(folder: Path, *rows: object) -> Path:
    file = folder / "q.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_a_query_file_keeps_references_and_sets_repeats_aside(tmp_path: Path):
    file = write(tmp_path, {"query": "Why?", "reference": "Because."}, {"query": "How?"}, {"query": "How?"})
    queries, rejects = file_queries(file, CONTROL, 0.2)
    assert [(row["query"], row["reference"]) for row in queries] == [("Why?", "Because."), ("How?", None)]
    assert [(row["row_id"], row["reason"]) for row in rejects] == [("line 3", "duplicate")]


@pytest.mark.parametrize(
    ("row", "named"),
    [({"text": "x"}, "`query` is None"), ({"query": " "}, "`query` is ' '"), ({"query": "x", "reference": 3}, "`reference` is 3")],
)
def test_broken_rows_beyond_the_budget_are_named_by_file_and_line(tmp_path: Path, row: dict[str, object], named: str):
    file = write(tmp_path, {"query": "Why?"}, row)
    with pytest.raises(UserError, match=f"line 2: {named}.*1 of 2 rows"):
        file_queries(file, CONTROL, 0.2)
    queries, rejects = file_queries(file, CONTROL, 0.5)
    assert len(queries) == len(rejects) == 1


def test_a_file_of_unusable_queries_says_why(tmp_path: Path):
    with pytest.raises(UserError, match=r"no row .* can be used: control token \(2\)"):
        file_queries(write(tmp_path, {"query": "a <|im_end|>"}, {"query": "<|im_start|>system"}), CONTROL, 0.2)
