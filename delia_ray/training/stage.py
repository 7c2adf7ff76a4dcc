"""The stage ``checkpoint``: Ray Train runs the workers; what they learnt becomes an artifact."""

import json
import shutil
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from delia_ray.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.models import load_tokenizer, token_ids
from delia_ray.placement import TrainWorkers
from delia_ray.progress import Line
from delia_ray.runtime import Connect
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.flight import METRICS, STOP, Logged
from delia_ray.training.prepare import prepare_corpus
from delia_ray.training.tracking import FOLDERS
from delia_ray.training.worker import REFUSED, Work, run_worker, summary

STAGE = "checkpoint/2"
CHECKPOINT_KIND = "checkpoint/1"
_STOPPED = 143
"""Exit code of a process that SIGTERM ended: what is finished stays, and the same command goes on."""
_FULL_DISK_BYTES = 2**20
_ON_CPU = {
    "DS_ACCELERATOR": "cpu",
    # glibc would give each large activation back to the system and take it again page by page: a sixth of a step (docs/training.md).
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**31),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
}


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
        UserError: a row is longer than ``max_row_tokens``, the loss is no number, a checkpoint cannot be used, or the disk is full.
        SystemExit: SIGTERM came; the workers have written a checkpoint.
    """

    def write(workspace: Workspace) -> Counts:
        connect()
        inflight = workspace.inflight
        for leftover in (REFUSED, STOP):
            (inflight / leftover).unlink(missing_ok=True)
        line.say("tokenising")
        work = _work(request, start, mixed, workers, inflight)
        prepared = prepare_corpus(mixed.data, start.data, work.new_token_ids, request.finetune, work.corpus)
        with line.follow(Logged(inflight / METRICS), request.steps, "steps"), _asked_to_stop(inflight):
            _fit(work)
        _check_finished(inflight)
        for result in ("trained", METRICS, *(name for name in FOLDERS if (inflight / name).exists())):
            shutil.move(inflight / result, workspace.data / result)
        counts = summary(read_metrics(workspace.data / METRICS))
        return {**counts, **prepared, "dropped": int(mixed.manifest.counts["rows"]) - prepared["rows"]}

    return build_once(
        out, stage=STAGE, kind=CHECKPOINT_KIND, request=request, inputs={"start": start, "mixed": mixed}, provenance=provenance, write=write
    )


def _work(request: Request, start: Artifact, mixed: Artifact, workers: TrainWorkers, inflight: Path) -> Work:
    return Work(
        config=request.finetune,
        workers=workers,
        steps=request.steps,
        start=start.data,
        corpus=inflight / "corpus",
        new_token_ids=tuple(token_ids(load_tokenizer(start.data), request.new_tokens)),
        inflight=inflight,
    )


def _check_finished(inflight: Path) -> None:
    """Raise what the workers could only leave in a file."""
    if (inflight / REFUSED).exists():
        raise UserError((inflight / REFUSED).read_text())
    if (inflight / STOP).exists():
        raise SystemExit(_STOPPED)


@contextmanager
def _asked_to_stop(inflight: Path) -> Generator[None]:
    """While the block runs, SIGTERM asks the workers for a checkpoint instead of ending this process."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: (inflight / STOP).touch())
    # Ray Train puts its own handler here and leaves it, and with it the process that led the run.
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)


def read_metrics(file: Path) -> list[dict[str, float]]:
    """The lines of a ``metrics.jsonl``, one a step."""
    return [json.loads(text) for text in file.read_text().splitlines()]


def _fit(work: Work) -> None:
    workers = work.workers
    resources = {"CPU": workers.num_cpus, **({"GPU": workers.num_gpus} if workers.num_gpus else {})}
    trainer = TorchTrainer(
        lambda: run_worker(work),
        torch_config=TorchConfig(backend="nccl" if workers.num_gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers.workers, use_gpu=bool(workers.num_gpus), resources_per_worker=resources),
        run_config=RunConfig(
            storage_path=str(work.inflight / "ray"),
            failure_config=FailureConfig(max_failures=workers.max_failures),
            worker_runtime_env={} if workers.num_gpus else {"env_vars": _ON_CPU},
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError:
        free = shutil.disk_usage(work.inflight).free
        if free < _FULL_DISK_BYTES:  # whichever process found no room, and could not write down why
            raise UserError(
                f"run.root: the disk below {work.inflight} is full ({free // 1024} KiB are free); free some and run the same command "
                "again, which goes on from the newest checkpoint"
            ) from None
        raise
