"""Tokenization of conversations: token ids, and for each token whether it is supervised and of which kind it is.

Tokens are masked by their character offsets in the rendered chat template, never by token id or by searching for a marker: with a tokenizer
whose padding token is its end-of-turn token, a model whose tokens are masked by id would never learn to stop.

Legend: T tokens of a row.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from delia_ray.core.errors import UserError
from delia_ray.core.records import Example
from delia_ray.models.chat import find_answer, render_conversation
from delia_ray.models.chat_format import detect_chat_format
from delia_ray.models.encoding import encode, encode_continuation

KINDS = ("masked", "text", "format", "new_token", "end")
"""Kinds of token: not supervised; free text; the braces, quotes and keys of a JSON answer; a new token; the end of the turn."""
_MASKED, _TEXT, _FORMAT, _NEW_TOKEN, _END = range(len(KINDS))
_SHOWN_CHARACTERS = 60
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?')
"""A JSON string, and the colon after it if it is a key. Correct on text that parses as JSON, and used only there."""


@dataclass(frozen=True)
class TokenizedRow:
    """A tokenized conversation, with the kind of each token."""

    ids: Sequence[int]
    """[T] token ids."""
    kinds: Sequence[int]
    """[T] index into ``KINDS``; 0 (masked) where the token is not supervised."""
    group: str
    """``task`` or ``diverse``."""

    @property
    def supervised_tokens(self) -> int:
        """Number of tokens that are predicted and supervised. Nothing predicts a row's first token."""
        return sum(1 for kind in self.kinds[1:] if kind)

    def drop_prefix(self, length: int) -> "TokenizedRow":
        """Return the row without its first ``length`` tokens."""
        return TokenizedRow(self.ids[length:], self.kinds[length:], self.group)


def tokenize(
    tokenizer: Any, examples: Sequence[Example], train_on: Literal["answer", "conversation"], new_tokens: Collection[int] = ()
) -> list[TokenizedRow]:
    """Tokenize ``examples`` and mark the kind of each token.

    A row is the prompt as it is served, the answer, and the end-of-turn token; what the template writes after that is cut, since no model
    has to generate it.

    Args:
        train_on: ``conversation`` supervises the prompt's tokens too.
        new_tokens: ids of the task's new tokens.

    Raises:
        UserError: the chat template rejects a row's turns, or does not append its answer unchanged to its prompt.
    """
    prompts = [_name_row_in_error(example, render_conversation, tokenizer, example["messages"][:-1], prompt=True) for example in examples]
    texts = [_name_row_in_error(example, render_conversation, tokenizer, example["messages"], prompt=False) for example in examples]
    end_of_turn_id = detect_chat_format(tokenizer).end_of_turn_id
    rows: list[TokenizedRow] = []
    for example, prompt, text, prompt_encoding, text_encoding in zip(
        examples, prompts, texts, encode(tokenizer, prompts), encode(tokenizer, texts), strict=True
    ):
        ids_T, starts_T = _align_encodings(tokenizer, prompt, text, prompt_encoding, text_encoding)
        answer = example["messages"][-1]["content"].strip()
        answer_start = find_answer(prompt, text, answer)
        if answer_start is None:
            raise UserError(f"{_describe(example)}: the model's chat template does not put its answer after its prompt as it is")
        kinds_T = _classify_tokens(ids_T, starts_T - answer_start, answer, new_tokens)
        if train_on == "answer":
            kinds_T[starts_T < len(prompt)] = _MASKED
        ends = np.flatnonzero((starts_T >= answer_start + len(answer)) & (ids_T == end_of_turn_id))
        if not len(ends):
            raise UserError(f"{_describe(example)}: its answer swallows the end-of-turn token, so that stopping could not be learned")
        length = int(ends[0]) + 1
        kinds_T[ends[:1]] = _END
        rows.append(TokenizedRow(ids_T[:length].tolist(), kinds_T[:length].tolist(), example["group"]))
    return rows


def _name_row_in_error(example: Example, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call ``function`` with the arguments and name the row in its ``UserError``."""
    try:
        return function(*args, **kwargs)
    except UserError as error:
        raise UserError(f"{_describe(example)}: {error}") from None


def _describe(example: Example) -> str:
    return f"{example['group']} row {example['messages'][-2]['content'][:_SHOWN_CHARACTERS]!r}"


def _align_encodings(
    tokenizer: Any, prompt: str, text: str, prompt_encoding: Any, text_encoding: Any
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the [T] token ids of ``text`` and the [T] character offsets at which they start.

    Where a token of the whole row would span the prompt's end, prompt and answer are encoded separately: that is how a served model
    reads the one and writes the other.
    """
    if text_encoding.ids[: len(prompt_encoding.ids)] == prompt_encoding.ids:
        return np.array(text_encoding.ids), np.array([start for start, _ in text_encoding.offsets])
    answer_tokens = encode_continuation(tokenizer, text[len(prompt) :])
    ids = [*prompt_encoding.ids, *(token for token, _ in answer_tokens)]
    starts = [*(start for start, _ in prompt_encoding.offsets), *(len(prompt) + start for _, start in answer_tokens)]
    return np.array(ids), np.array(starts)


def _classify_tokens(ids_T: NDArray[np.int64], offsets_T: NDArray[np.int64], answer: str, new_tokens: Collection[int]) -> NDArray[np.int64]:
    """[T] index into ``KINDS``; ``offsets_T`` are the character offsets of the tokens, counted from the answer's start."""
    kinds_T = np.full(len(ids_T), _TEXT)
    if format_offsets := find_format_offsets(answer):
        kinds_T[np.isin(offsets_T, list(format_offsets))] = _FORMAT
    for token in new_tokens:
        kinds_T[ids_T == token] = _NEW_TOKEN
    return kinds_T


def find_format_offsets(answer: str) -> set[int]:
    """Find the offsets of the characters of a JSON object that are its format: all but those inside string values; none in other text."""
    try:
        if not isinstance(json.loads(answer), dict):
            return set()
    except (ValueError, RecursionError):
        return set()
    in_values = {offset for match in _STRING.finditer(answer) if match[2] is None for offset in range(*match.span(1))}
    return {offset for offset in range(len(answer)) if offset not in in_values}
