import json
from collections import Counter

import pytest

from delia_ray.errors import UserError
from delia_ray.evaluation.format_metrics import parse_verdict
from delia_ray.records import EvalExample, Example
from delia_ray.tasks.config import FormatTask
from delia_ray.tasks.formatted import format_items, format_prompts

TASK = FormatTask(train=60, dev=40, test=120)
WANTED = {"no_token": 10, "false_trigger": 7, "plug_play": 8, "ordinary": 64}


def asked(split: str, task: FormatTask = TASK) -> list[EvalExample]:
    """The items of a split under eleven wordings."""
    return [{**row, "wording": f"wording {n % 11}", "document": None} for n, row in enumerate(format_items(task)[split])]  # pyright: ignore[reportReturnType]


def question(row: Example) -> str:
    return row["messages"][0]["content"].partition("\n")[0]


def test_no_fact_is_in_two_splits():
    items = format_items(TASK)
    seen = [question(row) for rows in items.values() for row in rows]
    assert len(seen) == len(set(seen)) == 220


def test_half_of_every_split_is_wrong():
    for rows in format_items(TASK).values():
        assert Counter(row["label"] for row in rows) == {"yes": len(rows) // 2, "no": len(rows) // 2}


def test_every_target_is_the_verdict_its_label_says():
    for row in (row for rows in format_items(TASK).values() for row in rows):
        verdict = parse_verdict(row["messages"][-1]["content"], "json")
        assert verdict is not None and verdict.hallucination == row["label"]


def test_another_seed_draws_other_facts():
    one, two = (format_items(TASK.model_copy(update={"seed": seed}))["train"] for seed in (0, 1))
    assert {question(row) for row in one} != {question(row) for row in two}


def test_probes_name_the_token_only_where_they_should():
    prompts = format_prompts("<sep>", asked("test"), WANTED, "test")
    named = {probe: {"<sep>" in p.messages[-1]["content"] for p in prompts if p.probe == probe} for probe in {p.probe for p in prompts}}
    assert named == {"test": {True}, "no_token": {False}, "false_trigger": {True}, "plug_play": {True}, "ordinary": {False}}
    assert Counter(p.probe for p in prompts) == {**WANTED, "test": 120}


def test_plain_and_token_prompts_ask_about_the_same_items():
    prompts = format_prompts("<sep>", asked("test"), WANTED, "test")
    test = [p.prompt_id for p in prompts if p.probe == "test"]
    plain = [p.prompt_id for p in prompts if p.probe == "no_token"]
    assert plain == test[: len(plain)]


@pytest.mark.parametrize("word", ["thought", "hallucination", "json"])
def test_no_prompt_leaks_what_the_token_means(word: str):
    prompts = format_prompts("<sep>", asked("test"), WANTED, "test")
    assert not [p for p in prompts if p.probe != "ordinary" and word in json.dumps(p.messages).lower()]


def test_settings_are_chosen_on_prompts_that_the_test_never_asks():
    items = {split: asked(split) for split in ("dev", "test")}
    prompts = [{json.dumps(p.messages) for p in format_prompts("<sep>", items[split], WANTED, split)} for split in ("dev", "test")]
    assert prompts[0] and not prompts[0] & prompts[1]
    wordings = [
        {p.messages[0]["content"].rpartition("\n")[2] for p in format_prompts("<sep>", items[split], {**WANTED, "no_token": 40}, split)}
        for split in ("dev", "test")
    ]
    assert not {w for w in wordings[0] if "Follow" not in w} & {w for w in wordings[1] if "Follow" not in w}


def test_every_item_says_which_wording_it_shares_with_others() -> None:
    prompts = format_prompts("<sep>", asked("test"), {**WANTED, "no_token": 96, "false_trigger": 96}, "test")
    shared = {probe: {p.wording for p in prompts if p.probe == probe} for probe in {p.probe for p in prompts}}
    assert len(shared["test"]) == 11 and shared["ordinary"] == {None}
    assert len(shared["no_token"]) == len(shared["false_trigger"]) == 40
    assert len(shared["plug_play"]) == WANTED["plug_play"], "each has an instruction of its own"
    assert all(
        p.wording in p.messages[0]["content"] for p in prompts if p.probe in ("no_token", "false_trigger", "plug_play") and p.wording
    )


def test_splits_that_ask_for_more_facts_than_there_are_are_refused() -> None:
    with pytest.raises(UserError, match=r"train=320 \+ dev=80 \+ test=200 asks for 600 facts, and the built-in table has 542"):
        format_items(FormatTask(train=320, dev=80, test=200))
