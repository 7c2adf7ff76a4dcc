"""Prompts with every model's answer side by side, as the pages show them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from delia_ray.artifacts import Artifact
from delia_ray.reporting.schema import Answers

_SETS_OF_FORMAT = {"test": "format_acc", "ordinary": "spill"}
_SETS_OF_OTHERS = {"test": "test rows", "ordinary": "everyday prompts"}
"""Probe -> the metric it serves, or what it is."""


def side_by_side(scores: Mapping[str, Artifact], task_kind: str, prompts: int) -> list[Answers]:
    """The first prompts of each probe in turn.

    Args:
        scores: arm -> its scores. The first arm's prompts are shown; one that another arm was not asked has no answer of it.
        task_kind: ``task.kind``.
        prompts: how many to show, at most.
    """
    tables = {arm: _rows(found) for arm, found in scores.items()}
    first = next(iter(tables.values()))
    by_probe: dict[str, list[str]] = {}
    for prompt_id, row in first.items():
        by_probe.setdefault(row["probe"], []).append(prompt_id)
    turns: Sequence[str] = [ids[turn] for turn in range(prompts) for ids in by_probe.values() if turn < len(ids)]
    sets = _SETS_OF_FORMAT if task_kind == "format" else _SETS_OF_OTHERS
    return [_answers(sets, prompt_id, first[prompt_id], tables) for prompt_id in turns[:prompts]]


def _answers(sets: Mapping[str, str], prompt_id: str, asked: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> Answers:
    return Answers(
        set=sets.get(asked["probe"], asked["probe"]),
        prompt=asked["messages"][-1]["content"],
        expected=asked["expected"],
        answers={arm: rows[prompt_id]["answer"] for arm, rows in tables.items() if prompt_id in rows},
    )


def _rows(scores: Artifact) -> dict[str, dict[str, Any]]:
    """Prompt id -> row, in the order asked."""
    return {row["prompt_id"]: row for row in pq.read_table(scores.data / "generations.parquet").to_pylist()}
