"""Which rows of the task an exported model is compared on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from delia_ray.core.records import Example, Message
from delia_ray.core.storage.transfer import fetch
from delia_ray.models import encode_prompt
from delia_ray.training.data.tokens import TokenizedRow, tokenize

_COMPARED_ROWS = 4
_LOSS_TOKENS = 1024
"""Rows are cut to it where losses are compared: their logits are in memory together."""
_RENDERED = 20
"""Rows that are rendered for each prompt that is asked for, at most, in search of those that hold a new token and are short enough."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, as it is sent and as it is rendered."""

    messages: list[Message]
    ids: list[int]


def load_examples(rewritten: Path) -> list[Example]:
    """Load the rows of the task, those of the test split first."""
    return [row for split in ("test", "train") for row in pq.read_table(fetch(rewritten / f"{split}.parquet")).to_pylist()]


def select_rows(tokenizer: Any, examples: Sequence[Example], new_ids: Sequence[int]) -> list[TokenizedRow]:
    """Select rows to compare losses on, those with a new token first, cut to 1,024 tokens."""
    rows = tokenize(tokenizer, list(examples), "conversation", new_ids)
    selected = sorted(rows, key=lambda row: not {*new_ids} & {*row.ids})[:_COMPARED_ROWS]
    return [TokenizedRow(row.ids[:_LOSS_TOKENS], row.kinds[:_LOSS_TOKENS], row.group) for row in selected]


def select_prompts(tokenizer: Any, examples: Sequence[Example], most: int, new_ids: Sequence[int], max_tokens: int) -> list[Prompt]:
    """Select prompts of at most ``max_tokens`` tokens, those that hold a new token first."""
    holding: list[Prompt] = []
    others: list[Prompt] = []
    for example in examples[: _RENDERED * most]:
        prompt = Prompt(example["messages"][:-1], encode_prompt(tokenizer, example["messages"][:-1]))
        if len(prompt.ids) <= max_tokens:
            (holding if not new_ids or {*new_ids} & {*prompt.ids} else others).append(prompt)
        if len(holding) == most:
            break
    return [*holding, *others][:most]
