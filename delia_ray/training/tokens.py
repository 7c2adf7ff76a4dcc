"""From a conversation to token ids, and what each token is to the loss.

Positions are masked by character offsets of the rendered chat template, never by token id or by searching for a
marker: with a tokenizer whose padding token is its end-of-turn token, masking by id would mean that stopping is never learnt.

Legend: T tokens of a row.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from delia_ray.errors import UserError
from delia_ray.models.chat import answer_place, render
from delia_ray.models.chat_format import chat_format
from delia_ray.models.encoding import encode, encode_after
from delia_ray.records import Example

KINDS = ("unlearnt", "text", "format", "new_token", "end")
"""What a token is to the loss: not learnt; free text; the braces, quotes and keys of a JSON answer; a new token; the end of the turn."""
_UNLEARNT, _TEXT, _FORMAT, _NEW, _END = range(len(KINDS))
_SHOWN_CHARACTERS = 60
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


def tokenise(
    tokenizer: Any, examples: Sequence[Example], learn: Literal["answer", "conversation"], new_tokens: Collection[int] = ()
) -> list[TokenisedRow]:
    """Token ids of each of ``examples`` and what each token is to the loss.

    A row is the prompt as it is served, the answer, and the token that ends the turn; what the template writes after that is no
    model's to write.

    Args:
        learn: whether the prompt's tokens count too.
        new_tokens: ids of the task's new tokens.

    Raises:
        UserError: the chat template refuses a row's turns, or does not put its answer after its prompt as it is.
    """
    prompts = [_of_row(example, render, tokenizer, example["messages"][:-1], prompt=True) for example in examples]
    texts = [_of_row(example, render, tokenizer, example["messages"], prompt=False) for example in examples]
    end = chat_format(tokenizer).end_of_turn_id
    rows: list[TokenisedRow] = []
    for example, prompt, text, before, whole in zip(
        examples, prompts, texts, encode(tokenizer, prompts), encode(tokenizer, texts), strict=True
    ):
        ids_T, starts_T = _joined(tokenizer, prompt, text, before, whole)
        answer = example["messages"][-1]["content"].strip()
        place = answer_place(prompt, text, answer)
        if place is None:
            raise UserError(f"{_name(example)}: the model's chat template does not put its answer after its prompt as it is")
        kinds_T = _kinds(ids_T, starts_T - place, answer, new_tokens)
        if learn == "answer":
            kinds_T[starts_T < len(prompt)] = _UNLEARNT
        ends = np.flatnonzero((starts_T >= place + len(answer)) & (ids_T == end))
        if not len(ends):
            raise UserError(f"{_name(example)}: its answer swallows the token that ends the turn, so that stopping could not be learnt")
        kept = int(ends[0]) + 1
        kinds_T[ends[:1]] = _END
        rows.append(TokenisedRow(ids_T[:kept].tolist(), kinds_T[:kept].tolist(), example["group"]))
    return rows


def _of_row(example: Example, do: Any, *args: Any, **kwargs: Any) -> Any:
    """What ``do`` gives; its error names the row."""
    try:
        return do(*args, **kwargs)
    except UserError as error:
        raise UserError(f"{_name(example)}: {error}") from None


def _name(example: Example) -> str:
    return f"{example['group']} row {example['messages'][-2]['content'][:_SHOWN_CHARACTERS]!r}"


def _joined(tokenizer: Any, prompt: str, text: str, before: Any, whole: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[T] token ids and [T] first characters in ``text``.

    Where a token of the whole row would span the prompt's end, prompt and answer are encoded apart: that is how a served model
    meets the one and writes the other.
    """
    if whole.ids[: len(before.ids)] == before.ids:
        return np.array(whole.ids), np.array([start for start, _ in whole.offsets])
    after = encode_after(tokenizer, text[len(prompt) :])
    ids = [*before.ids, *(token for token, _ in after)]
    return np.array(ids), np.array([*(start for start, _ in before.offsets), *(len(prompt) + start for _, start in after)])


def _kinds(ids_T: NDArray[np.int64], places_T: NDArray[np.int64], answer: str, new_tokens: Collection[int]) -> NDArray[np.int64]:
    """[T] index into ``KINDS``; ``places_T`` are the tokens' first characters, counted from the answer's."""
    kinds_T = np.full(len(ids_T), _TEXT)
    if structural := format_places(answer):
        kinds_T[np.isin(places_T, list(structural))] = _FORMAT
    for token in new_tokens:
        kinds_T[ids_T == token] = _NEW
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
