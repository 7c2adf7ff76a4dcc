"""Example prompts of a report, with the answers of all arms side by side."""

from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq

from delia_ray.core.artifacts import Artifact
from delia_ray.reporting.schema import PromptAnswers

MAX_EXAMPLES = 10
"""Prompts whose answers a report holds."""
_TITLES_FOR_FORMAT = {"test": "format_acc", "ordinary": "spill"}
_TITLES_FOR_OTHERS = {"test": "test rows", "ordinary": "everyday prompts"}
"""Test set -> metric computed from it, or description."""

_Key = tuple[str, str]
"""Test set and prompt id; the same item may be in several test sets."""
_Rows = dict[_Key, dict[str, Any]]


def select_examples(scores: Mapping[str, Artifact], task_kind: str, max_examples: int) -> list[PromptAnswers]:
    """Select the first prompts of each test set, taking turns between the sets.

    Args:
        scores: arm -> its scores. Prompts are those of the first arm; an arm that was not given a prompt has no answer to it.
        task_kind: ``task.kind``.
        max_examples: number of prompts to select, at most.
    """
    tables = {arm: _load_rows(artifact) for arm, artifact in scores.items()}
    first = next(iter(tables.values()))
    by_set: dict[str, list[_Key]] = {}
    for key in first:
        by_set.setdefault(key[0], []).append(key)
    keys = [set_keys[turn] for turn in range(max_examples) for set_keys in by_set.values() if turn < len(set_keys)]
    titles = _TITLES_FOR_FORMAT if task_kind == "format" else _TITLES_FOR_OTHERS
    return [_collect_answers(titles, key, first[key], tables) for key in keys[:max_examples]]


def _collect_answers(titles: Mapping[str, str], key: _Key, row: Mapping[str, Any], tables: Mapping[str, _Rows]) -> PromptAnswers:
    return PromptAnswers(
        set=titles.get(row["probe"], row["probe"]),
        prompt=row["messages"][-1]["content"],
        expected=row["expected"],
        answers={arm: rows[key]["answer"] for arm, rows in tables.items() if key in rows},
    )


def _load_rows(scores: Artifact) -> _Rows:
    """Load the prompts and answers of an arm, in the order of the file."""
    return {(row["probe"], row["prompt_id"]): row for row in pq.read_table(scores.fetch("generations.parquet")).to_pylist()}
