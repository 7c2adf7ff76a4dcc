import json
from pathlib import Path

import pytest

from delia_ray.errors import UserError
from delia_ray.synthesis.prompts import query_rows, topics
from delia_ray.synthesis.queries import file_queries


def test_topics_take_turns_and_ids_do_not_depend_on_the_number_asked_for():
    few, many = list(query_rows(100)), list(query_rows(250))
    assert many[:100] == few
    assert len({row["topic"] for row in few}) == len(topics()) >= 60
    assert len({row["query_id"] for row in many}) == 250


def test_a_query_file_keeps_references_and_drops_repeats(tmp_path: Path):
    rows = [{"query": "Why?", "reference": "Because."}, {"query": "How?"}, {"query": "How?"}]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [(row["query"], row["reference"]) for row in file_queries(tmp_path / "q.jsonl")] == [("Why?", "Because."), ("How?", None)]


@pytest.mark.parametrize(
    ("row", "named"),
    [({"text": "x"}, "`query` is None"), ({"query": " "}, "`query` is ' '"), ({"query": "x", "reference": 3}, "`reference` is 3")],
)
def test_a_bad_query_row_is_refused_by_file_and_line(tmp_path: Path, row: dict[str, object], named: str):
    (tmp_path / "q.jsonl").write_text(json.dumps({"query": "Why?"}) + "\n" + json.dumps(row))
    with pytest.raises(UserError, match=f"line 2: {named}"):
        file_queries(tmp_path / "q.jsonl")
