"""The stage ``checkpoint``: what the workers learnt becomes an artifact."""

import shutil
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from delia_ray.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.models import load_tokenizer, token_ids
from delia_ray.placement import TrainWorkers
from delia_ray.progress import Line
from delia_ray.runtime import Connect
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.log import Logged, read_metrics, summary
from delia_ray.training.prepare import prepare_corpus
from delia_ray.training.tracking import FOLDERS
from delia_ray.training.work import METRICS, REFUSED, STOP, Work

STAGE = "checkpoint/2"
CHECKPOINT_KIND = "checkpoint/1"
_STOPPED = 143
"""Exit code of a process that SIGTERM ended: what is finished stays, and the same command goes on."""


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
        from delia_ray.training.fit import fit  # noqa: PLC0415  torch takes seconds to import

        connect()
        inflight = workspace.inflight
        for leftover in (REFUSED, STOP):
            (inflight / leftover).unlink(missing_ok=True)
        line.say("tokenising")
        work = _work(request, start, mixed, workers, inflight)
        prepared = prepare_corpus(mixed.data, start.data, work.new_token_ids, request.finetune, work.corpus)
        with line.follow(Logged(inflight / METRICS), request.steps, "steps"), _asked_to_stop(inflight):
            fit(work)
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
