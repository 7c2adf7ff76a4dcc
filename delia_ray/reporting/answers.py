"""Prompts with every model's answer side by side, as the pages show them."""

from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq

from delia_ray.artifacts import Artifact
from delia_ray.reporting.schema import Answers

EXAMPLES = 10
"""Prompts whose answers a page shows."""
_SETS_OF_FORMAT = {"test": "format_acc", "ordinary": "spill"}
_SETS_OF_OTHERS = {"test": "test rows", "ordinary": "everyday prompts"}
"""Probe -> the metric it serves, or what it is."""

_Key = tuple[str, str]
"""Probe and prompt id: the same item may be asked by several probes."""
_Rows = dict[_Key, dict[str, Any]]


def side_by_side(scores: Mapping[str, Artifact], task_kind: str, prompts: int) -> list[Answers]:
    """The first prompts of each probe in turn.

    Args:
        scores: arm -> its scores. The first arm's prompts are shown; one that another arm was not asked has no answer of it.
        task_kind: ``task.kind``.
        prompts: how many to show, at most.
    """
    tables = {arm: _rows(found) for arm, found in scores.items()}
    first = next(iter(tables.values()))
    by_probe: dict[str, list[_Key]] = {}
    for key in first:
        by_probe.setdefault(key[0], []).append(key)
    turns = [keys[turn] for turn in range(prompts) for keys in by_probe.values() if turn < len(keys)]
    sets = _SETS_OF_FORMAT if task_kind == "format" else _SETS_OF_OTHERS
    return [_answers(sets, key, first[key], tables) for key in turns[:prompts]]


def _answers(sets: Mapping[str, str], key: _Key, asked: Mapping[str, Any], tables: Mapping[str, _Rows]) -> Answers:
    return Answers(
        set=sets.get(asked["probe"], asked["probe"]),
        prompt=asked["messages"][-1]["content"],
        expected=asked["expected"],
        answers={arm: rows[key]["answer"] for arm, rows in tables.items() if key in rows},
    )


def _rows(scores: Artifact) -> _Rows:
    """In the order asked."""
    return {(row["probe"], row["prompt_id"]): row for row in pq.read_table(scores.data / "generations.parquet").to_pylist()}
