"""The stage ``rewritten``: the task's rows under many wordings of its instruction."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import assert_never

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.errors import UserError
from delia_ray.records import EVAL_SCHEMA, EXAMPLE_SCHEMA, EXAMPLES_KIND, EvalExample, TaskItem, turn_of
from delia_ray.rewriting.config import GrammarRewrite, ModelRewrite, NoRewrite
from delia_ray.rewriting.gate import Gate
from delia_ray.rewriting.grammar import GrammarWriter
from delia_ray.rewriting.model_writer import ModelWriter
from delia_ray.rewriting.wordings import Writer, collect

STAGE = "rewritten/2"
SPLITS = ("train", "dev", "test")
Complete = Callable[[str, int], str]
"""A prompt and a seed -> a model's text."""


def rewrite(
    config: GrammarRewrite | ModelRewrite | NoRewrite,
    task: Artifact,
    placeholder: str | None,
    forbidden: Sequence[str],
    complete: Complete,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Word the instruction of every task row anew, train, dev and test rows each from wordings of their own.

    Args:
        placeholder: the token every wording must keep.
        forbidden: words that would leak what the token stands for.
        complete: asks a model; called only for ``kind: model``.

    Raises:
        UserError: the rows have no instruction to word anew, or too few wordings pass the gate.
    """

    def write(workspace: Workspace) -> Counts:
        items: dict[str, list[TaskItem]] = {split: pq.read_table(task.data / f"{split}.parquet").to_pylist() for split in SPLITS}
        wordings, refused = _wordings(config, items, placeholder, forbidden, complete)
        for split, rows in items.items():
            examples = [_worded(item, wordings[split], index) for index, item in enumerate(rows)]
            schema = EXAMPLE_SCHEMA if split == "train" else EVAL_SCHEMA
            pq.write_table(pa.Table.from_pylist(examples, schema=schema), workspace.data / f"{split}.parquet")
        (workspace.data / "wordings.json").write_text(json.dumps({**wordings, "refused": refused}, indent=1, ensure_ascii=False))
        return {**{split: len(rows) for split, rows in items.items()}, "wordings": sum(map(len, wordings.values()))}

    return build_once(out, stage=STAGE, kind=EXAMPLES_KIND, request=config, inputs={"task": task}, provenance=provenance, write=write)


def _wordings(
    config: GrammarRewrite | ModelRewrite | NoRewrite,
    items: dict[str, list[TaskItem]],
    placeholder: str | None,
    forbidden: Sequence[str],
    complete: Complete,
) -> tuple[dict[str, list[str]], list[list[str]]]:
    """Wordings of each split (none: keep the row's own), and refused ones with their reasons."""
    if isinstance(config, NoRewrite):
        return {split: [] for split in SPLITS}, []
    instruction = items["train"][0]["instruction"]
    if instruction is None:
        raise UserError(
            f"rewrite.kind: {config.kind} needs task.instruction, the sentence of each row to word anew; set it, or rewrite.kind=none"
        )
    writer: Writer
    match config:
        case GrammarRewrite():
            assert placeholder is not None, "Settings lets the grammar meet the format task only"
            writer = GrammarWriter(placeholder, config.seed)
        case ModelRewrite():
            writer = ModelWriter(
                complete, instruction, placeholder or "", attempts_per_wording=config.attempts_per_wording, seed=config.seed
            )
        case _:
            assert_never(config)
    gate = Gate(placeholder or "", forbidden, config.max_similarity)
    wordings, refused = collect(
        writer, gate, train=config.train_wordings, dev=config.dev_wordings, test=config.test_wordings, seed=config.seed
    )
    return {split: list(getattr(wordings, split)) for split in SPLITS}, [[r.wording, r.reason] for r in refused]


def _worded(item: TaskItem, wordings: Sequence[str], index: int) -> EvalExample:
    messages = [message.copy() for message in item["messages"]]
    wording = wordings[turn_of(index, len(wordings))] if wordings and item["instruction"] is not None else None
    if wording is not None:
        before, _, after = messages[-2]["content"].rpartition(item["instruction"] or "")
        messages[-2]["content"] = before + wording + after
    return {
        "example_id": item["example_id"],
        "group": item["group"],
        "messages": messages,
        "label": item["label"],
        # Under one wording nothing can be said of others, and nothing is.
        "wording": wording if len(wordings) > 1 else None,
        "document": item.get("document"),
    }
