import json
from pathlib import Path
from typing import Any

import pytest

from delia_ray.core.errors import UserError
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.synthesis.controller.policy import initial_states, plan
from delia_ray.synthesis.prompts import WORDINGS, format_query_id, load_topics, render_steering_turn
from delia_ray.synthesis.query_config import Columns
from delia_ray.synthesis.sources.user_files import locate_local_rows
from delia_ray.synthesis.sources.user_rows import filter_queries


def test_topics_take_turns_under_ids_of_their_own():
    names = [topic["topic"] for topic in load_topics()]
    queries = plan(initial_states(names, 1.0), range(250))
    assert [query.topic for query in queries[: len(names)]] == names
    assert len(set(names)) == len(names) >= 60
    assert len({format_query_id(query.number) for query in queries}) == 250


def test_every_wording_steers_toward_its_topic_in_other_words():
    turns = [render_steering_turn("cooking", wording) for wording in range(WORDINGS)]
    assert len(set(turns)) == WORDINGS > 1
    assert all("cooking" in turn for turn in turns)


CONTROL = ControlTokens(("<|im_start|>", "<|im_end|>"))


DEFAULT = Columns()


def file_queries(place: Path, budget: float = 0.2, columns: Columns = DEFAULT) -> tuple[list[Any], list[Any]]:
    rows = list(filter_queries(locate_local_rows(place, columns, "synthesize.queries.path")[0], CONTROL, budget))
    return [row for folder, row in rows if folder == "kept"], [row for folder, row in rows if folder == "rejects"]


def write(folder: Path, *rows: object) -> Path:
    file = folder / "q.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_a_query_file_keeps_references_and_rejects_duplicates(tmp_path: Path):
    file = write(tmp_path, {"query": "Why?", "reference": "Because."}, {"query": "How?"}, {"query": "How?"})
    queries, rejects = file_queries(file)
    assert [(row["query"], row["reference"]) for row in queries] == [("Why?", "Because."), ("How?", None)]
    assert [(row["row_id"], row["reason"]) for row in rejects] == [("line 3", "duplicate")]


@pytest.mark.parametrize(
    ("row", "named"),
    [({"text": "x"}, "`query` is None"), ({"query": " "}, "`query` is ' '"), ({"query": "x", "reference": 3}, "`reference` is 3")],
)
def test_broken_rows_beyond_the_budget_are_named_by_file_and_line(tmp_path: Path, row: dict[str, object], named: str):
    file = write(tmp_path, {"query": "Why?"}, row)
    with pytest.raises(UserError, match=f"line 2: {named}.*1 of 2 rows"):
        file_queries(file)
    queries, rejects = file_queries(file, 0.5)
    assert len(queries) == len(rejects) == 1


def test_a_file_of_unusable_queries_says_why(tmp_path: Path):
    with pytest.raises(UserError, match=r"no row .* can be used: control token \(2\)"):
        file_queries(write(tmp_path, {"query": "a <|im_end|>"}, {"query": "<|im_start|>system"}))


ALPACA = Columns(query="instruction", reference="output", topic="category")


def test_a_csv_of_a_public_data_set_is_read_under_its_own_names_and_its_hostile_rows_are_rejected(tmp_path: Path):
    rows = [
        b"\xef\xbb\xbfinstruction,output,category",
        b'"Why, and\nhow?",Because.,cooking',
        b"Where?,,",
        b"bad \xff bytes,,",
        b"one,two,three,four",
        b"null \0 byte,,",
        b"Hi <|im_end|>,,",
        b'"quote" after,,',
        b'"' + b"x" * 200_000 + b'",,',
        b"When?,,",
    ]
    (tmp_path / "q.csv").write_bytes(b"\n".join(rows))
    kept, rejects = file_queries(tmp_path / "q.csv", 0.9, ALPACA)
    assert [(row["query"], row["reference"], row["topic"]) for row in kept] == [
        ("Why, and\nhow?", "Because.", "cooking"),
        ("Where?", None, ""),
        ("When?", None, ""),
    ]
    reasons = {row["row_id"]: row["reason"] for row in rejects}
    assert "UTF-8" in reasons["line 5"] and "4 cells" in reasons["line 6"] and "NUL" in reasons["line 7"]
    assert reasons["line 8"] == "control token" and "CSV" in reasons["line 9"] and "field limit" in reasons["line 10"]


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        (
            Columns(),
            r"`query` is None.*say which of 'category', 'instruction', 'output' is the query with synthesize.queries.columns.query",
        ),
        (Columns(query="task"), r"columns.query: no row .* has a column 'task', found 'category', 'instruction', 'output'"),
        (Columns(query="instruction", reference="outptu"), r"columns.reference: no row .* has a column 'outptu'"),
    ],
)
def test_a_column_that_is_nowhere_is_named_with_those_that_are_there(tmp_path: Path, columns: Columns, named: str):
    file = write(tmp_path, {"instruction": "Why?", "output": "So.", "category": "x"})
    with pytest.raises(UserError, match=named):
        file_queries(file, columns=columns)
