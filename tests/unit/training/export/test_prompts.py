from collections.abc import Sequence
from typing import Any

import pytest

from delia_ray.core.records import Example
from delia_ray.training.export import prompts
from delia_ray.training.export.prompts import select_prompts

TOKEN = "T"


@pytest.fixture(autouse=True)
def words_are_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(tokenizer: object, messages: Sequence[Any]) -> list[int]:
        return [0 if word == TOKEN else 1 for message in messages for word in message["content"].split()]

    monkeypatch.setattr(prompts, "encode_prompt", encode)


def example(question: str) -> Example:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": "Yes."}]
    return {"example_id": question, "group": "task", "label": None, "messages": messages}  # pyright: ignore[reportReturnType]


def ask(questions: Sequence[str], most: int = 2, new_ids: Sequence[int] = (0,), max_tokens: int = 3) -> list[str]:
    return [
        prompt.messages[0]["content"] for prompt in select_prompts(None, [example(each) for each in questions], most, new_ids, max_tokens)
    ]


def test_those_with_the_token_come_first():
    assert ask(["a b", "c", "T d", "e"]) == ["T d", "a b"]
    assert ask(["T a", "b", "T c", "T d"]) == ["T a", "T c"]


def test_without_a_new_token_they_come_as_they_are():
    assert ask(["a", "b", "c"], new_ids=()) == ["a", "b"]


def test_one_that_the_engine_would_refuse_is_left_out():
    assert ask(["T a b c", "T a b", "a b c d"]) == ["T a b"]
    assert ask(["a b c d"]) == []


def test_not_every_row_of_a_large_task_is_rendered():
    assert ask(["a"] * 100 + ["T b"]) == ["a", "a"]
