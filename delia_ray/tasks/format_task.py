"""The built-in format task: judge an answer in a format that only a new token specifies. Its items and evaluation prompts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, TypeVar

from delia_ray.core.errors import UserError
from delia_ray.core.records import EvalExample, Example, Message, TaskItem, assign_wording, keyed_int, make_row_id
from delia_ray.tasks.config import FormatTask

_Row = TypeVar("_Row")

LABEL_WORDS = ("thought", "hallucination", "yes", "no")
"""Words that a wording of the instruction must not contain, besides words for the format: only the token may convey them."""

TOKEN_MEANING = (
    'this format: one JSON object with exactly two keys, "thought", a sentence that says whether the answer is right, and '
    '"hallucination", which is "yes" if the answer is wrong and "no" if it is right'
)
"""Meaning of the token, as text."""


@dataclass(frozen=True)
class Prompt:
    """An evaluation prompt for a finished model."""

    prompt_id: str
    probe: str
    """``test``, ``no_token``, ``false_trigger``, ``plug_play`` or ``ordinary``."""
    messages: list[Message]
    label: str | None
    """Gold label; None for probes without one."""
    expected: str | None
    """Target answer; None for probes without one."""
    wording: str | None = None
    """Wording of the instruction, if prompts share wordings."""
    document: str | None = None
    """Document that the item is part of, if there are documents."""


def build_format_items(task: FormatTask) -> dict[str, list[TaskItem]]:
    """Build ``train``, ``dev`` and ``test`` items about disjoint facts, half of them with a wrong answer in each split.

    Raises:
        UserError: the splits need more facts than there are.
    """
    facts = sorted(_read_jsonl("facts.jsonl"), key=lambda fact: keyed_int(task.seed, "facts", fact["fact_id"]))
    sizes = {"train": task.train, "dev": task.dev, "test": task.test}
    if (required := sum(sizes.values())) > len(facts):
        sum_of_sizes = " + ".join(f"{split}={size}" for split, size in sizes.items())
        raise UserError(f"task: {sum_of_sizes} needs {required} facts, and the built-in table has {len(facts)}; lower one of them")
    items: dict[str, list[TaskItem]] = {}
    start = 0
    for split, size in sizes.items():
        split_facts = facts[start : start + size]
        items[split] = [_build_item(task, split, fact, wrong=index % 2 == 0) for index, fact in enumerate(split_facts)]
        start += size
    return items


def _build_item(task: FormatTask, split: str, fact: Mapping[str, str], *, wrong: bool) -> TaskItem:
    label = "yes" if wrong else "no"
    instruction = f"Follow {task.token} for the exchange above."
    context = f"Question: {fact['question']}\nAnswer: {fact['wrong' if wrong else 'right']}"
    target = json.dumps({"thought": fact["reason"], "hallucination": label}, ensure_ascii=False)
    return {
        "example_id": make_row_id("format", split, fact["fact_id"], label),
        "group": "task",
        "messages": [{"role": "user", "content": f"{context}\n\n\n{instruction}"}, {"role": "assistant", "content": target}],
        "label": label,
        "instruction": instruction,
    }


def build_test_prompt(row: EvalExample) -> Prompt:
    """Build the evaluation prompt of a task row."""
    expected = row["messages"][-1]["content"]
    return Prompt(row["example_id"], "test", row["messages"][:-1], row["label"], expected, row["wording"], row["document"])


def build_format_prompts(token: str, items: Sequence[EvalExample], counts: Mapping[str, int], split: str) -> list[Prompt]:
    """Build all evaluation prompts of the format task: the items of a split, and its probes.

    Args:
        token: the new token.
        items: rewritten examples of ``split``.
        counts: number of prompts of each probe; the probes on task items use the first of ``items``.
        split: ``test`` or ``dev``, whose wordings and prompts are disjoint.
    """
    prompts = [build_test_prompt(row) for row in items]
    for probe, file in (("no_token", "plain_instructions.json"), ("false_trigger", "negated_instructions.json")):
        wordings = [wording.replace("{token}", token) for wording in _select_split(json.loads(_read(file)), split)]
        for index, row in enumerate(items[: counts[probe]]):
            wording = wordings[assign_wording(index, len(wordings))]
            content = f"{_get_context(row)}\n\n\n{wording}"
            prompts.append(Prompt(row["example_id"], probe, [{"role": "user", "content": content}], row["label"], None, wording))
    for row in _sample_evenly(_read_jsonl("plug_play.jsonl"), counts["plug_play"], split):
        wording = row["instruction"].replace("{token}", token)
        content = f"{row['context']}\n\n\n{wording}"
        prompts.append(Prompt(row["prompt_id"], "plug_play", [{"role": "user", "content": content}], None, None, wording))
    return prompts + load_ordinary_prompts(counts["ordinary"], split)


def load_ordinary_prompts(count: int, split: str) -> list[Prompt]:
    """Load at most ``count`` everyday prompts, which are unrelated to any task."""
    rows = _sample_evenly(_read_jsonl("ordinary.jsonl"), count, split)
    return [Prompt(row["prompt_id"], "ordinary", [{"role": "user", "content": row["prompt"]}], None, None) for row in rows]


def spell_out_token(prompts: Sequence[Prompt], token: str, meaning: str) -> list[Prompt]:
    """Return the task's test prompts with ``token`` replaced by ``meaning``."""
    return [
        replace(prompt, messages=[{**turn, "content": turn["content"].replace(token, meaning)} for turn in prompt.messages])
        for prompt in prompts
        if prompt.probe == "test"
    ]


def load_ordinary_texts() -> list[str]:
    """Load all everyday prompts of all splits."""
    return [row["prompt"] for row in _read_jsonl("ordinary.jsonl")]


def _get_context(row: Example) -> str:
    """Return the user turn without its instruction."""
    return row["messages"][-2]["content"].rpartition("\n\n\n")[0]


def _select_split(rows: Sequence[_Row], split: str) -> list[_Row]:
    """Select the rows of ``split``: every third row is dev, the others are test, so that both have all kinds of rows."""
    return [row for index, row in enumerate(rows) if (index % 3 == 2) == (split == "dev")]


def _sample_evenly(rows: Sequence[dict[str, Any]], count: int, split: str) -> list[dict[str, Any]]:
    """Select ``count`` rows of a split at even distances."""
    split_rows = _select_split(rows, split)
    return [split_rows[index * len(split_rows) // count] for index in range(min(count, len(split_rows)))]


def _read(name: str) -> str:
    return resources.files("delia_ray.tasks").joinpath("data", name).read_text(encoding="utf-8")


def _read_jsonl(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _read(name).splitlines() if line.strip()]
