"""The stage ``distilled``: the task's targets in the untrained model's own words (SDFT, Yang et al. 2024, arXiv 2402.13669)."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.records import EXAMPLE_SCHEMA, EXAMPLES_KIND, Example, Message

STAGE = "distilled/1"
_PROMPT = """Below are a request and a reference answer. Write your own answer to the request: keep what the reference answer says and \
the form it has, and reply with the answer alone.

Request:
{request}

Reference answer:
{reference}"""

AskAll = Callable[[Sequence[list[Message]]], list[str]]
"""Conversations -> the untrained model's greedy answers."""


class DistilRequest(Config):
    """What is asked of the model."""

    max_tokens: int
    """Longest answer."""


def distil(
    rewritten: Artifact,
    start: Artifact,
    keeps: Callable[[Example, str], bool],
    ask: AskAll,
    max_tokens: int,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """The rows of ``rewritten``, each training target replaced by the model's own version of it where that still does the task.

    ``answers.parquet`` has every answer and whether it was taken.

    Args:
        keeps: whether a text answers a row as its target does.
        ask: asks the model ``start``.
        max_tokens: that ``ask`` allows an answer.
    """

    def write(workspace: Workspace) -> Counts:
        rows: list[Example] = pq.read_table(rewritten.data / "train.parquet").to_pylist()
        answers = [answer.strip() for answer in ask([_shown(row) for row in rows])]
        taken = [keeps(row, answer) for row, answer in zip(rows, answers, strict=True)]
        own = [_with_target(row, answer) if fits else row for row, answer, fits in zip(rows, answers, taken, strict=True)]
        pq.write_table(pa.Table.from_pylist(own, schema=EXAMPLE_SCHEMA), workspace.data / "train.parquet")
        for split in ("dev", "test"):
            pq.write_table(pq.read_table(rewritten.data / f"{split}.parquet"), workspace.data / f"{split}.parquet")
        asked = {"example_id": [row["example_id"] for row in rows], "answer": answers, "taken": taken}
        pq.write_table(pa.table(asked), workspace.data / "answers.parquet")
        return {**{split: rewritten.manifest.counts[split] for split in ("train", "dev", "test")}, "own": sum(taken)}

    request, inputs = DistilRequest(max_tokens=max_tokens), {"rewritten": rewritten, "start": start}
    return build_once(out, stage=STAGE, kind=EXAMPLES_KIND, request=request, inputs=inputs, provenance=provenance, write=write)


def _shown(row: Example) -> list[Message]:
    """The conversation up to its last turn, which shows the model the target, too."""
    *before, asked, target = row["messages"]
    text = _PROMPT.format(request=asked["content"], reference=target["content"])
    return [*before, {"role": asked["role"], "content": text}]


def _with_target(row: Example, answer: str) -> Example:
    messages: list[Message] = [*row["messages"][:-1], {"role": "assistant", "content": answer}]
    return {"example_id": row["example_id"], "group": row["group"], "messages": messages, "label": row["label"]}
