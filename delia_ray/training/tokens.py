"""From a conversation to token ids, and what each token is to the loss.

Positions are masked by character offsets of the rendered chat template, never by token id or by searching for a
marker: with a tokenizer whose padding token is its end-of-turn token, masking by id would mean that stopping is never learnt.

Legend: T tokens of a row.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from delia_ray.errors import UserError
from delia_ray.records import Example, Message

KINDS = ("unlearnt", "text", "format", "new_token", "end")
"""What a token is to the loss: not learnt; free text; the braces, quotes and keys of a JSON answer; a new token; the end of the turn."""
_TEXT, _FORMAT, _NEW, _END = range(1, len(KINDS))
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?')
"""A JSON string, and the colon behind it if it is a key. Right on text that parses as JSON, and used on no other."""


@dataclass(frozen=True)
class TokenisedRow:
    """One conversation as the model sees it."""

    ids: Sequence[int]
    """[T] token ids."""
    kinds: Sequence[int]
    """[T] index into ``KINDS``; 0 where the token does not count."""
    group: str
    """``task`` or ``diverse``."""

    @property
    def learnt_tokens(self) -> int:
        """Tokens that are predicted and count. A row's first token has nothing to be predicted from."""
        return sum(1 for kind in self.kinds[1:] if kind)


def prompt_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The conversation rendered up to where the assistant starts to write."""
    return cast(str, tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))


def check_chat_template(tokenizer: Any, model: str) -> None:
    """Refuse a tokenizer whose template cannot be trained on.

    Raises:
        UserError: there is no chat template, it has no generation prompt, or a full conversation does not start with its prompt.
    """
    if not tokenizer.chat_template:
        raise UserError(f"model: {model} has no chat template; use an instruction-tuned model or add chat_template.jinja to its folder")
    turn: list[Message] = [{"role": "user", "content": "Hi"}]
    prompt = prompt_text(tokenizer, turn)
    if prompt == tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=False):
        raise UserError(
            f"model: the chat template of {model} ignores add_generation_prompt; end it with the assistant's turn prefix when that is set"
        )
    answered = tokenizer.apply_chat_template([*turn, {"role": "assistant", "content": "Hello"}], tokenize=False)
    if not answered.startswith(prompt):
        raise UserError(
            f"model: the chat template of {model} renders an answered turn unlike its generation prompt; "
            "use a template whose prompt is a prefix"
        )


def tokenise(tokenizer: Any, example: Example, learn: Literal["answer", "conversation"], new_tokens: Collection[int] = ()) -> TokenisedRow:
    """Token ids of ``example`` and what each is to the loss.

    Args:
        learn: whether the prompt's tokens count too.
        new_tokens: ids of the task's new tokens.
    """
    messages = example["messages"]
    prompt, answer = prompt_text(tokenizer, messages[:-1]), messages[-1]["content"]
    text = cast(str, tokenizer.apply_chat_template(list(messages), tokenize=False))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoded["input_ids"]
    starts: list[int] = [start for start, _ in encoded["offset_mapping"]]
    answer_end = len(prompt) + len(answer)
    last = next((i for i, start in enumerate(starts) if start >= answer_end and ids[i] == tokenizer.eos_token_id), len(ids) - 1)
    structural = format_places(answer)

    def kind(place: int) -> int:
        offset = starts[place] - len(prompt)
        if offset < 0 and learn == "answer":
            return 0
        if ids[place] in new_tokens:
            return _NEW
        if offset >= len(answer):
            return _END
        return _FORMAT if offset in structural else _TEXT

    return TokenisedRow(ids[: last + 1], [kind(place) for place in range(last + 1)], example["group"])


def format_places(answer: str) -> set[int]:
    """Places of the characters of a JSON object that are its form: all but what stands inside string values; none of other text."""
    try:
        if not isinstance(json.loads(answer), dict):
            return set()
    except (ValueError, RecursionError):
        return set()
    inside = {place for text in _STRING.finditer(answer) if text[2] is None for place in range(*text.span(1))}
    return {place for place in range(len(answer)) if place not in inside}
