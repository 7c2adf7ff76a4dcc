"""The stage ``checkpoint``: fine-tune the base model on a mixture and store the trained weights and metrics as an artifact."""

import shutil
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from delia_ray.core.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import Stopped, UserError
from delia_ray.core.progress import ProgressLine
from delia_ray.core.storage.objects import exists, read_bytes, remove, write_bytes
from delia_ray.core.storage.paths import is_remote
from delia_ray.core.storage.transfer import fetch
from delia_ray.models import load_tokenizer, token_ids
from delia_ray.placement import TrainWorkers
from delia_ray.ray_runtime.capacity import demand_of_workers
from delia_ray.ray_runtime.cluster import Connect
from delia_ray.ray_runtime.metrics import current_labels
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.data.prepare import prepare_corpus
from delia_ray.training.job import METRICS, STOP, USER_ERROR, TrainJob
from delia_ray.training.metrics.log import MetricsTail, read_metrics, summarize
from delia_ray.training.metrics.trackers import TRACKER_FOLDERS

STAGE = "checkpoint/3"
CHECKPOINT_KIND = "checkpoint/1"


class FinetuneRequest(Config):
    """Request of the stage ``checkpoint``: all settings that change the trained weights."""

    finetune: FinetuneConfig
    steps: int
    """Optimizer steps, the same for every arm."""
    new_tokens: tuple[str, ...]
    """New tokens, whose embeddings are trained."""


def finetune(
    request: FinetuneRequest,
    base: Artifact,
    mixed: Artifact,
    workers: TrainWorkers,
    connect: Connect,
    line: ProgressLine,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Train ``base`` on ``mixed`` and store the adapter (or full weights), the new token embeddings and ``metrics.jsonl`` at ``out``.

    After an interruption the same request resumes from the newest checkpoint.

    Raises:
        UserError: a row is longer than ``max_seq_len``, the loss is not finite, a checkpoint cannot be used, or the disk is full.
        Stopped: SIGTERM was received; the workers have written a checkpoint.
    """

    def write(workspace: Workspace) -> Counts:
        connect(demand_of_workers(workers))
        line.set_status("tokenizing")
        job = _build_job(request, base, workers, workspace)
        corpus_counts = prepare_corpus(mixed.data, base.data, job.new_token_ids, request.finetune, job.corpus)
        signals.extend(_train(job, line))
        _collect_results(workspace)
        metric_counts = summarize(read_metrics(workspace.data / METRICS))
        return {**metric_counts, **corpus_counts, "dropped": int(mixed.manifest.counts["rows"]) - corpus_counts["rows"]}

    signals: list[int] = []
    inputs = {"base": base, "mixed": mixed}
    artifact = build_once(out, stage=STAGE, kind=CHECKPOINT_KIND, request=request, inputs=inputs, provenance=provenance, write=write)
    if signals:  # the training was over before its workers saw it
        raise Stopped(request.steps)
    return artifact


def _train(job: TrainJob, line: ProgressLine) -> list[int]:
    """Let the workers train to the end; return the signals that came too late to stop them."""
    from delia_ray.training.launch import launch  # noqa: PLC0415  torch takes seconds to import

    inflight = job.inflight
    for leftover in (USER_ERROR, STOP):
        remove(inflight / leftover)
    with line.track(MetricsTail(inflight / METRICS), job.steps, "steps"), _stop_workers_on_sigterm(inflight) as signals:
        launch(job)
    _raise_worker_outcome(job)
    return signals


def _build_job(request: FinetuneRequest, base: Artifact, workers: TrainWorkers, workspace: Workspace) -> TrainJob:
    inflight = workspace.inflight
    return TrainJob(
        config=request.finetune,
        workers=workers,
        steps=request.steps,
        base=base.data,
        corpus=inflight / "corpus",
        new_token_ids=tuple(token_ids(load_tokenizer(base.data), request.new_tokens)),
        inflight=inflight,
        trained=(workspace.data if is_remote(inflight) else inflight) / "trained",  # objects cannot be moved
        labels=current_labels(),
    )


def _collect_results(workspace: Workspace) -> None:
    """Move what the workers wrote to the artifact's data; objects of the weights are there already."""
    inflight = workspace.inflight
    logged = (METRICS, *(folder for folder in TRACKER_FOLDERS if fetch(inflight / folder).exists()))
    for name in logged if is_remote(inflight) else ("trained", *logged):
        shutil.move(fetch(inflight / name), workspace.data / name)


def _raise_worker_outcome(job: TrainJob) -> None:
    """Raise the ``UserError`` that a worker wrote to a file, or ``Stopped`` after a stop; return if the training is finished.

    Raises:
        RuntimeError: the workers ended without a reason before the last step.
    """
    inflight = job.inflight
    if exists(inflight / USER_ERROR):
        raise UserError(read_bytes(inflight / USER_ERROR).decode())
    steps = len(read_metrics(inflight / METRICS)) if fetch(inflight / METRICS).exists() else 0
    if steps == job.steps and exists(job.trained):
        return
    if exists(inflight / STOP):
        raise Stopped(steps)
    raise RuntimeError(f"the workers ended after {steps} of {job.steps} steps; the same command goes on from the newest checkpoint")


@contextmanager
def _stop_workers_on_sigterm(inflight: Path) -> Generator[list[int]]:
    """While the block runs, let the first SIGTERM ask the workers for a checkpoint instead of ending this process.

    The block gets a list that every such signal is added to.
    """
    signals: list[int] = []

    def stop(number: int, frame: object) -> None:
        signals.append(number)
        if len(signals) > 1:  # no worker may be running that could answer
            raise KeyboardInterrupt
        write_bytes(inflight / STOP, b"")

    sigterm = signal.signal(signal.SIGTERM, stop)
    # Ray Train installs a SIGINT handler and never removes it, which keeps the controller's process alive.
    sigint = signal.getsignal(signal.SIGINT)
    try:
        yield signals
    except SystemExit:  # with which Ray Train answers Ctrl-C
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, sigterm)
        signal.signal(signal.SIGINT, sigint)
