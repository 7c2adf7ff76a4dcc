"""What the training benchmarks work on: the demo's base model, its mixture and its settings."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from delia_ray.cli.terminal import Terminal
from delia_ray.core.artifacts import Artifact, Provenance
from delia_ray.core.config import build_config
from delia_ray.models import load_tokenizer, resolve_dtype
from delia_ray.pipeline.run import Run
from delia_ray.placement import TrainWorkers
from delia_ray.settings import Settings
from delia_ray.training.config import FinetuneConfig, Full
from delia_ray.training.data.batch_sampler import BatchSampler
from delia_ray.training.data.tokens import tokenize

WARM_STEPS, STEPS, LARGE_STEPS = 3, 6, 4
TOKEN = "<sep>"
ROWS: int = FinetuneConfig.model_fields["global_batch_size"].default
"""Rows a step: what a run takes unless it says otherwise, as for the paper's figures. The demo itself takes 8."""
PACK_TOKENS: int = TrainWorkers.model_fields["micro_batch_tokens"].default
"""Tokens a pack of ours; the others keep their own."""
PRECISIONS = ("auto", "float32", "bfloat16")
PROVENANCE = Provenance(None, ["benchmarks"])
_DEMO = Path(__file__).parents[1] / "jobs" / "configs" / "demo.yaml"


@dataclass(frozen=True)
class Inputs:
    """A base model, a mixture, and how to train."""

    base: Artifact
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
        """The tokenized rows of each step, the same as the training stage takes."""
        tokenizer, examples = load_tokenizer(self.base.data), self.examples()
        rows = tokenize(tokenizer, examples, self.config.train_on)  # pyright: ignore[reportArgumentType]
        sampler = BatchSampler(
            [row.group for row in rows], lambda: [row["example_id"] for row in examples], self.config.global_batch_size, 0
        )
        return [[rows[index] for index in sampler(step)] for step in range(WARM_STEPS + self.steps)]


def demo(*, full: bool = False, rows: int = ROWS, precision: str = "auto") -> Inputs:
    """The demo's, built if they are not there yet, with ``rows`` a step."""
    settings = build_config(Settings, [_DEMO], [])
    with Run(settings, Terminal(sys.stderr), PROVENANCE) as pipeline:
        base, mixed = pipeline.base, pipeline.mixed("delia")
    changed = {"precision": precision, "global_batch_size": rows, **({"parameters": Full(kind="full")} if full else {})}
    return Inputs(base, mixed, settings.finetune.model_copy(update=changed), LARGE_STEPS if rows > ROWS else STEPS)
