"""The stage ``checkpoint``: Ray Train runs the workers; what they learnt becomes an artifact."""

import json
import shutil
from pathlib import Path

from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from delia_ray.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.models import load_tokenizer, token_ids
from delia_ray.placement import TrainWorkers
from delia_ray.progress import Line
from delia_ray.runtime import Connect, RayTally
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.worker import REFUSED, Work, run_worker, summary

STAGE = "checkpoint/1"
CHECKPOINT_KIND = "checkpoint/1"


class Request(Config):
    """What makes one trained checkpoint different from another."""

    finetune: FinetuneConfig
    steps: int
    """Optimiser steps, the same for every arm."""
    new_tokens: tuple[str, ...]
    """Tokens whose rows are trained."""


def finetune(
    request: Request,
    start: Artifact,
    mixed: Artifact,
    workers: TrainWorkers,
    connect: Connect,
    line: Line,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Train ``start`` on ``mixed`` and store the adapter (or weights), the new rows and ``metrics.jsonl`` at ``out``.

    A killed attempt goes on from its newest checkpoint when the same request comes again.

    Raises:
        UserError: a row is longer than ``max_row_tokens``.
    """

    def write(workspace: Workspace) -> Counts:
        connect()
        work = _work(request, start, mixed, workers, workspace)
        with line.follow(work.tally, request.steps, "steps"):
            _fit(work, workers)
        refused = workspace.inflight / REFUSED
        if refused.exists():
            message = refused.read_text()
            shutil.rmtree(workspace.inflight)
            raise UserError(message)
        shutil.move(workspace.inflight / "trained", workspace.data / "trained")
        shutil.move(workspace.inflight / "metrics.jsonl", workspace.data / "metrics.jsonl")
        return summary(read_metrics(workspace.data / "metrics.jsonl"))

    return build_once(
        out, stage=STAGE, kind=CHECKPOINT_KIND, request=request, inputs={"start": start, "mixed": mixed}, provenance=provenance, write=write
    )


def _work(request: Request, start: Artifact, mixed: Artifact, workers: TrainWorkers, workspace: Workspace) -> Work:
    return Work(
        config=request.finetune,
        steps=request.steps,
        start=start.data,
        mixed=mixed.data,
        new_token_ids=tuple(token_ids(load_tokenizer(start.data), request.new_tokens)),
        inflight=workspace.inflight,
        micro_batch_tokens=workers.micro_batch_tokens,
        zero_stage=workers.zero_stage,
        tally=RayTally(),
    )


def read_metrics(file: Path) -> list[dict[str, float]]:
    """The lines of a ``metrics.jsonl``, one a step."""
    return [json.loads(text) for text in file.read_text().splitlines()]


def _fit(work: Work, workers: TrainWorkers) -> None:
    resources = {"CPU": workers.num_cpus, **({"GPU": workers.num_gpus} if workers.num_gpus else {})}
    trainer = TorchTrainer(
        lambda: run_worker(work),
        torch_config=TorchConfig(backend="nccl" if workers.num_gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers.workers, use_gpu=bool(workers.num_gpus), resources_per_worker=resources),
        run_config=RunConfig(
            name="train",  # the same name finds the checkpoints of a killed attempt
            storage_path=str(work.inflight),
            failure_config=FailureConfig(max_failures=workers.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            worker_runtime_env={} if workers.num_gpus else {"env_vars": {"DS_ACCELERATOR": "cpu"}},
        ),
    )
    trainer.fit()
