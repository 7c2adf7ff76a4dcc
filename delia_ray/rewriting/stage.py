"""The stage ``rewritten``: give the task's rows many wordings of the task's instruction."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import assert_never

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.core.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.errors import UserError
from delia_ray.core.records import EVAL_SCHEMA, EXAMPLE_SCHEMA, EXAMPLES_KIND, EvalExample, TaskItem, assign_wording
from delia_ray.rewriting.config import GrammarRewrite, ModelRewrite, NoRewrite
from delia_ray.rewriting.grammar import GrammarWriter
from delia_ray.rewriting.model_writer import ModelWriter
from delia_ray.rewriting.wording_filter import WordingFilter
from delia_ray.rewriting.wordings import Writer, collect

STAGE = "rewritten/2"
SPLITS = ("train", "dev", "test")
Complete = Callable[[str, int], str]
"""Prompt and seed -> a model's text."""


def rewrite(
    config: GrammarRewrite | ModelRewrite | NoRewrite,
    task: Artifact,
    placeholder: str | None,
    forbidden: Sequence[str],
    complete: Complete,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Replace the instruction of every task row by a wording of the row's split; splits share no wording.

    Args:
        config: the kind of rewriting, and the number of wordings.
        task: the task's items in splits.
        placeholder: the token that every wording must keep.
        forbidden: words that would leak the token's meaning.
        complete: completes a prompt with a model; called only for ``kind: model``.
        out: folder of the artifact.
        provenance: recorded in the manifest.

    Raises:
        UserError: the rows have no instruction to rewrite, or too few wordings pass the filter.
    """

    def write(workspace: Workspace) -> Counts:
        items: dict[str, list[TaskItem]] = {split: pq.read_table(task.fetch(f"{split}.parquet")).to_pylist() for split in SPLITS}
        wordings, rejected = _collect_wordings(config, items, placeholder, forbidden, complete)
        for split, examples in _apply_wordings(items, wordings).items():
            schema = EXAMPLE_SCHEMA if split == "train" else EVAL_SCHEMA
            pq.write_table(pa.Table.from_pylist(examples, schema=schema), workspace.data / f"{split}.parquet")
        (workspace.data / "wordings.json").write_text(json.dumps({**wordings, "refused": rejected}, indent=1, ensure_ascii=False))
        return {**{split: len(rows) for split, rows in items.items()}, "wordings": sum(map(len, wordings.values()))}

    return build_once(out, stage=STAGE, kind=EXAMPLES_KIND, request=config, inputs={"task": task}, provenance=provenance, write=write)


def reword(
    config: GrammarRewrite | NoRewrite, items: dict[str, list[TaskItem]], placeholder: str | None, forbidden: Sequence[str]
) -> dict[str, list[EvalExample]]:
    """Return the examples of each split that ``rewrite`` stores, where no model is asked for wordings.

    Raises:
        UserError: as ``rewrite``.
    """

    def complete(_prompt: str, _seed: int) -> str:
        raise AssertionError("the grammar asks no model")

    return _apply_wordings(items, _collect_wordings(config, items, placeholder, forbidden, complete)[0])


def _collect_wordings(
    config: GrammarRewrite | ModelRewrite | NoRewrite,
    items: dict[str, list[TaskItem]],
    placeholder: str | None,
    forbidden: Sequence[str],
    complete: Complete,
) -> tuple[dict[str, list[str]], list[list[str]]]:
    """Collect the wordings of each split (none: keep the row's own), and the rejected ones with their reasons."""
    if isinstance(config, NoRewrite):
        return {split: [] for split in SPLITS}, []
    instruction = items["train"][0]["instruction"]
    if instruction is None:
        raise UserError(
            f"rewrite.kind: {config.kind} needs task.instruction, the sentence of each row to rewrite; set it, or rewrite.kind=none"
        )
    writer: Writer
    match config:
        case GrammarRewrite():
            assert placeholder is not None, "Settings allows the grammar for the format task only"
            writer = GrammarWriter(placeholder, config.seed)
        case ModelRewrite():
            writer = ModelWriter(
                complete, instruction, placeholder or "", attempts_per_wording=config.attempts_per_wording, seed=config.seed
            )
        case _:
            assert_never(config)
    wording_filter = WordingFilter(placeholder or "", forbidden, config.max_similarity)
    counts = {"train": config.train_wordings, "dev": config.dev_wordings, "test": config.test_wordings}
    wordings, rejected = collect(writer, wording_filter, **counts, seed=config.seed)
    return {split: list(getattr(wordings, split)) for split in SPLITS}, [[each.wording, each.reason] for each in rejected]


def _apply_wordings(items: dict[str, list[TaskItem]], wordings: dict[str, list[str]]) -> dict[str, list[EvalExample]]:
    return {split: [_apply_wording(item, wordings[split], index) for index, item in enumerate(rows)] for split, rows in items.items()}


def _apply_wording(item: TaskItem, wordings: Sequence[str], index: int) -> EvalExample:
    """Make an example of the ``index``-th item of a split, with one of ``wordings`` in place of its instruction."""
    messages = [message.copy() for message in item["messages"]]
    wording = wordings[assign_wording(index, len(wordings))] if wordings and item["instruction"] is not None else None
    if wording is not None:
        before, _, after = messages[-2]["content"].rpartition(item["instruction"] or "")
        messages[-2]["content"] = before + wording + after
    return {
        "example_id": item["example_id"],
        "group": item["group"],
        "messages": messages,
        "label": item["label"],
        # One wording alone gives no interval over wordings, so it is not recorded.
        "wording": wording if len(wordings) > 1 else None,
        "document": item.get("document"),
    }
