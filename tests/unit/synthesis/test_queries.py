import json
from pathlib import Path

import pytest

from delia_ray.errors import UserError
from delia_ray.synthesis.controller import plan, start
from delia_ray.synthesis.prompts import WORDINGS, query_id, steering_turn, topics
from delia_ray.synthesis.queries import file_queries


def test_topics_take_turns_under_ids_of_their_own():
    names = [topic["topic"] for topic in topics()]
    asks = plan(start(names, 1.0), range(250))
    assert [ask.topic for ask in asks[: len(names)]] == names
    assert len(set(names)) == len(names) >= 60
    assert len({query_id(ask.number) for ask in asks}) == 250


def test_every_wording_steers_towards_its_topic_in_other_words():
    turns = [steering_turn("cooking", wording) for wording in range(WORDINGS)]
    assert len(set(turns)) == WORDINGS > 1
    assert all("cooking" in turn for turn in turns)


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
