from typing import Any

import pytest

from delia_ray.core.errors import UserError
from delia_ray.core.records import EvalExample, Message
from delia_ray.probing.tokens.config import TokenProbeConfig
from delia_ray.probing.tokens.prompts import (
    SLOT,
    find_leaks,
    load_carrier_sentences,
    make_leak_prompts,
    make_mentions,
    make_substitutions,
)
from delia_ray.tasks.config import FormatTask, MessagesTask

TASK = MessagesTask.model_validate({"kind": "messages", "train": "a.jsonl", "test": "b.jsonl", "token": "<note>"})
BUILT_IN = FormatTask()


def make_item(number: int, request: str) -> EvalExample:
    messages: list[Message] = [{"role": "user", "content": request}, {"role": "assistant", "content": "{}"}]
    return {"example_id": str(number), "group": "task", "messages": messages, "label": None, "wording": None, "document": None}


def test_every_carrier_has_one_slot_after_a_space_and_never_first():
    sentences = load_carrier_sentences()
    assert len(set(sentences)) == len(sentences) >= 50
    for sentence in sentences:
        before, slot, after = sentence.partition(SLOT)
        assert slot and SLOT not in after
        assert before.split() and before.endswith(" "), sentence


def test_carriers_differ_before_their_slot_since_a_causal_model_sees_no_more():
    beginnings = [sentence.partition(SLOT)[0] for sentence in load_carrier_sentences()]
    assert len(set(beginnings)) == len(beginnings)


def test_questions_after_the_meaning_name_the_token_and_give_nothing_away():
    filled = TokenProbeConfig().fill_defaults(BUILT_IN)
    prompts = make_leak_prompts(BUILT_IN.token)
    assert len(prompts) == 20
    for [turn] in prompts:
        assert BUILT_IN.token in turn["content"]
        assert not find_leaks(turn["content"], filled.leak_words or ())


@pytest.mark.parametrize(
    ("answer", "leaked"),
    [("It is json.", ["JSON"]), ("A thoughtful reply", []), ("{'thought': 1, 'JSON': 2}", ["JSON", "thought"]), ("no_json", [])],
)
def test_a_leak_is_a_whole_word_in_any_case(answer: str, leaked: list[str]):
    assert find_leaks(answer, ("JSON", "thought")) == leaked


def test_the_spelled_out_prompt_differs_in_the_token_alone():
    rows = [make_item(0, "Judge 2 + 2 = 5.\n\n\nFollow `<note>`, only <note>."), make_item(1, "No token."), make_item(2, 'Use "<note>".')]
    prompts = make_substitutions(rows, "<note>", 'a list like ["x"]', count=5)
    assert [pair.named[-1]["content"] for pair in prompts] == [rows[0]["messages"][0]["content"], rows[2]["messages"][0]["content"]]
    assert prompts[0].spelled == [{"role": "user", "content": 'Judge 2 + 2 = 5.\n\n\nFollow a list like ["x"], only a list like ["x"].'}]
    assert prompts[1].spelled[0]["content"] == 'Use a list like ["x"].'
    assert len(make_substitutions(rows, "<note>", "x", count=1)) == 1


def test_a_mention_is_the_plain_prompt_and_one_sentence_more():
    for task, items in ((TASK, []), (BUILT_IN, [make_item(n, f"Question {n}\n\n\nFollow <sep>.") for n in range(12)])):
        prompts = make_mentions(task, items, count=12)
        assert len({each.prompt_id for each in prompts}) == 12
        for each in prompts:
            plain, negated, asked = (turns[-1]["content"] for turns in (each.plain, each.negated, each.asked))
            assert task.token not in plain
            assert negated.startswith(plain) and asked.startswith(plain) and negated != asked
            assert task.token in negated.removeprefix(plain) and task.token in asked.removeprefix(plain)
            assert negated.endswith(each.wordings[-1].replace("{token}", str(task.token)))


def test_prompts_know_the_wordings_that_they_share():
    rows: Any = [{**make_item(n, "Follow <note>."), "wording": f"wording {n % 2}"} for n in range(4)]
    assert [pair.wordings for pair in make_substitutions(rows, "<note>", "x", count=4)] == [("wording 0",), ("wording 1",)] * 2
    prompts = make_mentions(BUILT_IN, [make_item(n, f"Question {n}\n\n\nFollow <sep>.") for n in range(12)], count=12)
    assert len({each.wordings[1] for each in prompts}) == 8
    assert all(each.wordings[0] in each.plain[-1]["content"] for each in prompts)


def test_a_task_of_ones_own_must_name_its_concepts_and_a_token():
    with pytest.raises(UserError, match=r"probe\.tokens\.concepts: name the words that <note> .* task\.kind=messages"):
        TokenProbeConfig().fill_defaults(TASK)
    with pytest.raises(UserError, match=r"task\.token: found null"):
        TokenProbeConfig(concepts=("x",)).fill_defaults(TASK.model_copy(update={"token": None}))
    filled = TokenProbeConfig(concepts=("list",)).fill_defaults(TASK)
    assert (filled.concepts, filled.leak_words, filled.meaning) == (("list",), ("list",), None)


@pytest.mark.parametrize("key", ["concepts", "leak_words"])
@pytest.mark.parametrize("word", ["", " "])
def test_a_word_of_nothing_is_refused(key: str, word: str):
    with pytest.raises(ValueError, match=f"{key}.0"):
        TokenProbeConfig.model_validate({key: [word]})
