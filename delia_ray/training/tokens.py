"""From a conversation to token ids and the positions that are learnt.

Positions are masked by character offsets of the rendered chat template, never by token id or by searching for a
marker: with a tokenizer whose padding token is its end-of-turn token, masking by id would mean that stopping is never learnt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from delia_ray.errors import UserError
from delia_ray.records import Example, Message


@dataclass(frozen=True)
class TokenisedRow:
    """One conversation as the model sees it."""

    ids: list[int]
    """[T] token ids."""
    learnt: list[bool]
    """[T] true where the token is predicted and counts: the answer and its end-of-turn token."""
    group: str
    """``task`` or ``diverse``."""


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


def tokenise(tokenizer: Any, example: Example, max_tokens: int) -> TokenisedRow:
    """Token ids of ``example`` and which of them are learnt.

    Raises:
        UserError: the conversation has more than ``max_tokens`` tokens.
    """
    messages = example["messages"]
    prompt = prompt_text(tokenizer, messages[:-1])
    text = cast(str, tokenizer.apply_chat_template(list(messages), tokenize=False))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = encoded["input_ids"]
    offsets: list[tuple[int, int]] = encoded["offset_mapping"]
    answer_end = len(prompt) + len(messages[-1]["content"])
    last = next((i for i, (start, _) in enumerate(offsets) if start >= answer_end and ids[i] == tokenizer.eos_token_id), len(ids) - 1)
    ids, offsets = ids[: last + 1], offsets[: last + 1]
    if len(ids) > max_tokens:
        raise UserError(
            f"row {example['example_id']} has {len(ids)} tokens, more than finetune.max_row_tokens={max_tokens}; "
            "raise it, or shorten the row"
        )
    return TokenisedRow(ids, [start >= len(prompt) for start, _ in offsets], example["group"])
