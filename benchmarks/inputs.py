"""What the training benchmarks work on: the demo's start model, its mixture and its settings."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from delia_ray.artifacts import Artifact, Provenance
from delia_ray.config import build_config
from delia_ray.models import load_tokenizer, resolve_dtype
from delia_ray.pipeline import Pipeline
from delia_ray.placement import TrainWorkers
from delia_ray.settings import Settings
from delia_ray.terminal import Terminal
from delia_ray.training.batches import StepRows
from delia_ray.training.config import FinetuneConfig, Full
from delia_ray.training.tokens import tokenise

WARM_STEPS, STEPS, LARGE_STEPS = 3, 6, 4
TOKEN = "<sep>"
ROWS: int = FinetuneConfig.model_fields["batch_rows"].default
"""Rows a step: what a run takes unless it says otherwise, as for the paper's figures. The demo itself takes 8."""
PACK_TOKENS: int = TrainWorkers.model_fields["micro_batch_tokens"].default
"""Tokens a pack of ours; the others keep their own."""
PRECISIONS = ("auto", "float32", "bfloat16")
PROVENANCE = Provenance(None, ["benchmarks"])
_DEMO = Path(__file__).parents[1] / "jobs" / "configs" / "demo.yaml"


@dataclass(frozen=True)
class Inputs:
    """A start model, a mixture, and how to train."""

    start: Artifact
    mixed: Artifact
    config: FinetuneConfig
    steps: int
    """Steps that are timed, after ``WARM_STEPS`` that are not."""

    @property
    def dtype(self) -> torch.dtype:
        return resolve_dtype(self.config.precision)

    def examples(self) -> list[dict[str, Any]]:
        """The mixture's rows in order."""
        return pq.read_table(self.mixed.data).sort_by("order_key").to_pylist()

    def batches(self) -> list[list[Any]]:
        """The tokenised rows of each step, the same as the training stage takes."""
        tokenizer, examples = load_tokenizer(self.start.data), self.examples()
        rows = tokenise(tokenizer, examples, self.config.learn)  # pyright: ignore[reportArgumentType]
        step_rows = StepRows([row.group for row in rows], lambda: [row["example_id"] for row in examples], self.config.batch_rows, 0)
        return [[rows[index] for index in step_rows(step)] for step in range(WARM_STEPS + self.steps)]


def demo(*, full: bool = False, rows: int = ROWS, precision: str = "auto") -> Inputs:
    """The demo's, built if they are not there yet, with ``rows`` a step."""
    settings = build_config(Settings, [_DEMO], [])
    with Pipeline(settings, Terminal(sys.stderr), PROVENANCE) as pipeline:
        start, mixed = pipeline.start, pipeline.mixed("delia")
    changed = {"precision": precision, "batch_rows": rows, **({"parameters": Full(kind="full")} if full else {})}
    return Inputs(start, mixed, settings.finetune.model_copy(update=changed), LARGE_STEPS if rows > ROWS else STEPS)
