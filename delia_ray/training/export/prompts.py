"""Which rows of the task an exported model is compared on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from delia_ray.core.records import Example, Message
from delia_ray.core.storage.transfer import fetch
from delia_ray.models import encode_prompt
from delia_ray.training.data.tokens import TokenizedRow, tokenize

MAX_TOKENS = 1024
"""Longest prompt and answer together in the parity check, unless the model's context is shorter."""
_COMPARED_ROWS = 4


def select_rows(tokenizer: Any, rewritten: Path, most: int, new_ids: Sequence[int]) -> list[TokenizedRow]:
    """Select rows to compare losses on, those with a new token first, cut to the maximum length."""
    rows = tokenize(tokenizer, _load_examples(rewritten)[:most], "conversation", new_ids)
    selected = sorted(rows, key=lambda row: not {*new_ids} & {*row.ids})[:_COMPARED_ROWS]
    return [TokenizedRow(row.ids[:MAX_TOKENS], row.kinds[:MAX_TOKENS], row.group) for row in selected]


def select_conversations(tokenizer: Any, rewritten: Path, most: int, new_ids: Sequence[int]) -> list[list[Message]]:
    """Select prompts of test rows, and of training rows if there are too few; those that hold a new token first."""
    conversations = [row["messages"][:-1] for row in _load_examples(rewritten)]
    if not new_ids:
        return conversations[:most]
    holding: list[list[Message]] = []
    others: list[list[Message]] = []
    for messages in conversations:
        if len(holding) == most:
            break
        (holding if {*new_ids} & {*encode_prompt(tokenizer, messages)} else others).append(messages)
    return [*holding, *others][:most]


def _load_examples(rewritten: Path) -> list[Example]:
    return [row for split in ("test", "train") for row in pq.read_table(fetch(rewritten / f"{split}.parquet")).to_pylist()]
