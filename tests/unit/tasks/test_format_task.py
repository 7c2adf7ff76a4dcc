import json
from collections import Counter

import pytest

from delia_ray.core.errors import UserError
from delia_ray.core.records import EvalExample, Example
from delia_ray.evaluation.metrics.format_metrics import parse_formatted_output
from delia_ray.tasks.config import FormatTask
from delia_ray.tasks.format_task import build_format_items, build_format_prompts

TASK = FormatTask(train=60, dev=40, test=120)
COUNTS = {"no_token": 10, "false_trigger": 7, "plug_play": 8, "ordinary": 64}


def make_items(split: str, task: FormatTask = TASK) -> list[EvalExample]:
    """Make the items of a split under eleven wordings."""
    return [{**row, "wording": f"wording {n % 11}", "document": None} for n, row in enumerate(build_format_items(task)[split])]  # pyright: ignore[reportReturnType]


def question(row: Example) -> str:
    return row["messages"][0]["content"].partition("\n")[0]


def test_no_fact_is_in_two_splits():
    items = build_format_items(TASK)
    questions = [question(row) for rows in items.values() for row in rows]
    assert len(questions) == len(set(questions)) == 220


def test_half_of_every_split_is_wrong():
    for rows in build_format_items(TASK).values():
        assert Counter(row["label"] for row in rows) == {"yes": len(rows) // 2, "no": len(rows) // 2}


def test_every_target_states_its_label():
    for row in (row for rows in build_format_items(TASK).values() for row in rows):
        verdict = parse_formatted_output(row["messages"][-1]["content"], "json")
        assert verdict is not None and verdict.hallucination == row["label"]


def test_another_seed_selects_other_facts():
    one, two = (build_format_items(TASK.model_copy(update={"seed": seed}))["train"] for seed in (0, 1))
    assert {question(row) for row in one} != {question(row) for row in two}


def test_the_token_is_only_in_the_probes_that_use_it():
    prompts = build_format_prompts("<sep>", make_items("test"), COUNTS, "test")
    has_token = {probe: {"<sep>" in p.messages[-1]["content"] for p in prompts if p.probe == probe} for probe in {p.probe for p in prompts}}
    assert has_token == {"test": {True}, "no_token": {False}, "false_trigger": {True}, "plug_play": {True}, "ordinary": {False}}
    assert Counter(p.probe for p in prompts) == {**COUNTS, "test": 120}


def test_plain_and_token_prompts_ask_about_the_same_items():
    prompts = build_format_prompts("<sep>", make_items("test"), COUNTS, "test")
    test = [p.prompt_id for p in prompts if p.probe == "test"]
    plain = [p.prompt_id for p in prompts if p.probe == "no_token"]
    assert plain == test[: len(plain)]


@pytest.mark.parametrize("word", ["thought", "hallucination", "json"])
def test_no_prompt_leaks_what_the_token_means(word: str):
    prompts = build_format_prompts("<sep>", make_items("test"), COUNTS, "test")
    assert not [p for p in prompts if p.probe != "ordinary" and word in json.dumps(p.messages).lower()]


def test_dev_and_test_prompts_are_disjoint():
    items = {split: make_items(split) for split in ("dev", "test")}
    prompts = [{json.dumps(p.messages) for p in build_format_prompts("<sep>", items[split], COUNTS, split)} for split in ("dev", "test")]
    assert prompts[0] and not prompts[0] & prompts[1]
    wordings = [
        {
            p.messages[0]["content"].rpartition("\n")[2]
            for p in build_format_prompts("<sep>", items[split], {**COUNTS, "no_token": 40}, split)
        }
        for split in ("dev", "test")
    ]
    assert not {w for w in wordings[0] if "Follow" not in w} & {w for w in wordings[1] if "Follow" not in w}


def test_every_prompt_has_the_wording_it_shares() -> None:
    prompts = build_format_prompts("<sep>", make_items("test"), {**COUNTS, "no_token": 96, "false_trigger": 96}, "test")
    shared = {probe: {p.wording for p in prompts if p.probe == probe} for probe in {p.probe for p in prompts}}
    assert len(shared["test"]) == 11 and shared["ordinary"] == {None}
    assert len(shared["no_token"]) == len(shared["false_trigger"]) == 40
    assert len(shared["plug_play"]) == COUNTS["plug_play"], "each has its own instruction"
    assert all(
        p.wording in p.messages[0]["content"] for p in prompts if p.probe in ("no_token", "false_trigger", "plug_play") and p.wording
    )


def test_splits_that_need_more_facts_than_there_are_are_refused() -> None:
    with pytest.raises(UserError, match=r"train=320 \+ dev=80 \+ test=200 needs 600 facts, and the built-in table has 542"):
        build_format_items(FormatTask(train=320, dev=80, test=200))
