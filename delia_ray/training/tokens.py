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

import numpy as np
from numpy.typing import NDArray

from delia_ray.errors import UserError
from delia_ray.records import Example, Message

KINDS = ("unlearnt", "text", "format", "new_token", "end")
"""What a token is to the loss: not learnt; free text; the braces, quotes and keys of a JSON answer; a new token; the end of the turn."""
_UNLEARNT, _TEXT, _FORMAT, _NEW, _END = range(len(KINDS))
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

    def after(self, count: int) -> "TokenisedRow":
        """The row without its first ``count`` tokens."""
        return TokenisedRow(self.ids[count:], self.kinds[count:], self.group)


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


def tokenise(
    tokenizer: Any, examples: Sequence[Example], learn: Literal["answer", "conversation"], new_tokens: Collection[int] = ()
) -> list[TokenisedRow]:
    """Token ids of each of ``examples`` and what each token is to the loss.

    Args:
        learn: whether the prompt's tokens count too.
        new_tokens: ids of the task's new tokens.
    """
    prompts = [prompt_text(tokenizer, example["messages"][:-1]) for example in examples]
    texts = [tokenizer.apply_chat_template(list(example["messages"]), tokenize=False) for example in examples]
    # Not through the tokenizer's own call, which spends a quarter more on masks that are not needed here.
    encodings = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    rows: list[TokenisedRow] = []
    for example, prompt, encoding in zip(examples, prompts, encodings, strict=True):
        ids_T, starts_T = np.array(encoding.ids), np.array([start for start, _ in encoding.offsets])
        kinds_T = _kinds(ids_T, starts_T - len(prompt), example["messages"][-1]["content"], learn, new_tokens)
        ends = np.flatnonzero((kinds_T == _END) & (ids_T == tokenizer.eos_token_id))
        end = int(ends[0]) + 1 if len(ends) else len(ids_T)
        rows.append(TokenisedRow(ids_T[:end].tolist(), kinds_T[:end].tolist(), example["group"]))
    return rows


def _kinds(
    ids_T: NDArray[np.int64],
    places_T: NDArray[np.int64],
    answer: str,
    learn: Literal["answer", "conversation"],
    new_tokens: Collection[int],
) -> NDArray[np.int64]:
    """[T] index into ``KINDS``; ``places_T`` are the tokens' first characters, counted from the answer's."""
    kinds_T = np.full(len(ids_T), _TEXT)
    if structural := format_places(answer):
        kinds_T[np.isin(places_T, list(structural))] = _FORMAT
    kinds_T[places_T >= len(answer)] = _END
    for token in new_tokens:
        kinds_T[ids_T == token] = _NEW
    if learn == "answer":
        kinds_T[places_T < 0] = _UNLEARNT
    return kinds_T


def format_places(answer: str) -> set[int]:
    """Places of the characters of a JSON object that are its form: all but what stands inside string values; none of other text."""
    try:
        if not isinstance(json.loads(answer), dict):
            return set()
    except (ValueError, RecursionError):
        return set()
    inside = {place for text in _STRING.finditer(answer) if text[2] is None for place in range(*text.span(1))}
    return {place for place in range(len(answer)) if place not in inside}
