"""The stage ``distilled``: replace the task's targets by the base model's own rewriting of them.

This is self-distillation fine-tuning (SDFT, Yang et al. 2024, arXiv 2402.13669).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.core.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.records import EXAMPLE_SCHEMA, EXAMPLES_KIND, Example, Message

STAGE = "distilled/1"
_PROMPT = """Below are a request and a reference answer. Write your own answer to the request: keep what the reference answer says and \
the form it has, and reply with the answer alone.

Request:
{request}

Reference answer:
{reference}"""

GenerateAnswers = Callable[[Sequence[list[Message]]], list[str]]
"""Conversations -> the base model's greedy answers."""


class SelfDistillationRequest(Config):
    """Settings of the base model's answers."""

    max_tokens: int
    """Longest answer, in tokens."""


def distill_targets(
    rewritten: Artifact,
    base: Artifact,
    keeps_target: Callable[[Example, str], bool],
    generate: GenerateAnswers,
    max_tokens: int,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Replace each training target of ``rewritten`` by the base model's own version, where that still solves the task.

    ``answers.parquet`` has every answer and whether it was taken.

    Args:
        rewritten: the task's rows.
        base: the base model.
        keeps_target: whether a text answers a row as well as its target does.
        generate: generates answers with ``base``.
        max_tokens: limit of ``generate`` for one answer.
        out: folder of the artifact.
        provenance: recorded in the manifest.
    """

    def write(workspace: Workspace) -> Counts:
        rows: list[Example] = pq.read_table(rewritten.fetch("train.parquet")).to_pylist()
        answers = [answer.strip() for answer in generate([_make_prompt(row) for row in rows])]
        taken = [keeps_target(row, answer) for row, answer in zip(rows, answers, strict=True)]
        distilled = [_replace_target(row, answer) if is_taken else row for row, answer, is_taken in zip(rows, answers, taken, strict=True)]
        pq.write_table(pa.Table.from_pylist(distilled, schema=EXAMPLE_SCHEMA), workspace.data / "train.parquet")
        for split in ("dev", "test"):
            pq.write_table(pq.read_table(rewritten.fetch(f"{split}.parquet")), workspace.data / f"{split}.parquet")
        columns = {"example_id": [row["example_id"] for row in rows], "answer": answers, "taken": taken}
        pq.write_table(pa.table(columns), workspace.data / "answers.parquet")
        return {**{split: rewritten.manifest.counts[split] for split in ("train", "dev", "test")}, "own": sum(taken)}

    request, inputs = SelfDistillationRequest(max_tokens=max_tokens), {"rewritten": rewritten, "base": base}
    return build_once(out, stage=STAGE, kind=EXAMPLES_KIND, request=request, inputs=inputs, provenance=provenance, write=write)


def _make_prompt(row: Example) -> list[Message]:
    """Make the conversation up to its last user turn, which shows the model the request and the target."""
    *history, request, target = row["messages"]
    text = _PROMPT.format(request=request["content"], reference=target["content"])
    return [*history, {"role": request["role"], "content": text}]


def _replace_target(row: Example, answer: str) -> Example:
    messages: list[Message] = [*row["messages"][:-1], {"role": "assistant", "content": answer}]
    return {"example_id": row["example_id"], "group": row["group"], "messages": messages, "label": row["label"]}
