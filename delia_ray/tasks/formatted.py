"""The built-in task: judge an exchange, in a format that only the new token names."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, TypeVar

from delia_ray.errors import UserError
from delia_ray.records import EvalExample, Example, Message, TaskItem, keyed_int, row_id, turn_of
from delia_ray.tasks.config import FormatTask

_Row = TypeVar("_Row")

LABEL_WORDS = ("thought", "hallucination", "yes", "no")
"""What a wording of the instruction must not say, besides words for the shape of the answer: only the token may carry them."""


MEANING = (
    'this format: one JSON object with exactly two keys, "thought", a sentence that says whether the answer is right, and '
    '"hallucination", which is "yes" if the answer is wrong and "no" if it is right'
)
"""What the token stands for."""


@dataclass(frozen=True)
class Prompt:
    """One question to a finished model."""

    prompt_id: str
    probe: str
    """``test``, ``no_token``, ``false_trigger``, ``plug_play`` or ``ordinary``."""
    messages: list[Message]
    label: str | None
    """Gold label, for the probes that have one."""
    expected: str | None
    """The target, where there is one."""
    wording: str | None = None
    """Of the instruction, where prompts share wordings."""
    document: str | None = None
    """That the item is a part of, where there are documents."""


def format_items(task: FormatTask) -> dict[str, list[TaskItem]]:
    """``train``, ``dev`` and ``test`` items over different facts, half of them with a wrong answer in each split.

    Raises:
        UserError: there are not as many facts.
    """
    facts = sorted(_read_lines("facts.jsonl"), key=lambda fact: keyed_int(task.seed, "facts", fact["fact_id"]))
    sizes = {"train": task.train, "dev": task.dev, "test": task.test}
    if (wanted := sum(sizes.values())) > len(facts):
        given = " + ".join(f"{split}={size}" for split, size in sizes.items())
        raise UserError(f"task: {given} asks for {wanted} facts, and the built-in table has {len(facts)}; lower one of them")
    items: dict[str, list[TaskItem]] = {}
    start = 0
    for split, size in sizes.items():
        chosen = facts[start : start + size]
        items[split] = [_item(task, split, fact, wrong=index % 2 == 0) for index, fact in enumerate(chosen)]
        start += size
    return items


def _item(task: FormatTask, split: str, fact: Mapping[str, str], *, wrong: bool) -> TaskItem:
    label = "yes" if wrong else "no"
    instruction = f"Follow {task.token} for the exchange above."
    context = f"Question: {fact['question']}\nAnswer: {fact['wrong' if wrong else 'right']}"
    target = json.dumps({"thought": fact["reason"], "hallucination": label}, ensure_ascii=False)
    return {
        "example_id": row_id("format", split, fact["fact_id"], label),
        "group": "task",
        "messages": [{"role": "user", "content": f"{context}\n\n\n{instruction}"}, {"role": "assistant", "content": target}],
        "label": label,
        "instruction": instruction,
    }


def test_prompt(row: EvalExample) -> Prompt:
    """A row of the task's own, to be answered."""
    expected = row["messages"][-1]["content"]
    return Prompt(row["example_id"], "test", row["messages"][:-1], row["label"], expected, row["wording"], row["document"])


def format_prompts(token: str, items: Sequence[EvalExample], wanted: Mapping[str, int], split: str) -> list[Prompt]:
    """Everything the format task asks a finished model: the items of a split, and the probes around them.

    Args:
        token: the new token.
        items: rewritten examples of ``split``.
        wanted: how many prompts of each probe; the probes on task items take the first of ``items``.
        split: ``test`` or ``dev``, which share no wording and no prompt.
    """
    prompts = [test_prompt(row) for row in items]
    for probe, file in (("no_token", "plain_instructions.json"), ("false_trigger", "negated_instructions.json")):
        wordings = [wording.replace("{token}", token) for wording in _of_split(json.loads(_read(file)), split)]
        for index, row in enumerate(items[: wanted[probe]]):
            wording = wordings[turn_of(index, len(wordings))]
            content = f"{_context(row)}\n\n\n{wording}"
            prompts.append(Prompt(row["example_id"], probe, [{"role": "user", "content": content}], row["label"], None, wording))
    for row in _share(_read_lines("plug_play.jsonl"), wanted["plug_play"], split):
        wording = row["instruction"].replace("{token}", token)
        content = f"{row['context']}\n\n\n{wording}"
        prompts.append(Prompt(row["prompt_id"], "plug_play", [{"role": "user", "content": content}], None, None, wording))
    return prompts + ordinary_prompts(wanted["ordinary"], split)


def ordinary_prompts(count: int, split: str) -> list[Prompt]:
    """At most ``count`` everyday prompts that have nothing to do with any task."""
    rows = _share(_read_lines("ordinary.jsonl"), count, split)
    return [Prompt(row["prompt_id"], "ordinary", [{"role": "user", "content": row["prompt"]}], None, None) for row in rows]


def spelled_out(prompts: Sequence[Prompt], token: str, meaning: str) -> list[Prompt]:
    """The task's own prompts among ``prompts``, with ``meaning`` in place of ``token``."""
    return [
        replace(prompt, messages=[{**turn, "content": turn["content"].replace(token, meaning)} for turn in prompt.messages])
        for prompt in prompts
        if prompt.probe == "test"
    ]


def ordinary_texts() -> list[str]:
    """All everyday prompts, of every split."""
    return [row["prompt"] for row in _read_lines("ordinary.jsonl")]


def _context(row: Example) -> str:
    return row["messages"][-2]["content"].rpartition("\n\n\n")[0]


def _of_split(rows: Sequence[_Row], split: str) -> list[_Row]:
    """Two of three are the test split's; the evenness keeps every kind in both."""
    return [row for index, row in enumerate(rows) if (index % 3 == 2) == (split == "dev")]


def _share(rows: Sequence[dict[str, Any]], count: int, split: str) -> list[dict[str, Any]]:
    """``count`` rows of a split, evenly."""
    own = _of_split(rows, split)
    return [own[index * len(own) // count] for index in range(min(count, len(own)))]


def _read(name: str) -> str:
    return resources.files("delia_ray.tasks").joinpath("data", name).read_text(encoding="utf-8")


def _read_lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _read(name).splitlines() if line.strip()]
