"""The training job that the driver passes to its workers, and the names of the files that they exchange. Imports no training library."""

from dataclasses import dataclass
from pathlib import Path

from delia_ray.core.errors import UserError
from delia_ray.placement import TrainWorkers
from delia_ray.ray_runtime.metrics import UNLABELED, Labels
from delia_ray.training.config import FinetuneConfig

METRICS = "metrics.jsonl"
"""The metrics log, one JSON line per step."""
USER_ERROR = "refused.txt"
"""Message of a ``UserError``, written by a worker for the driver to raise."""
STOP = "stop"
"""A file of this name in ``TrainJob.inflight`` asks the workers to write a checkpoint and return."""


class CommonError(UserError):
    """What a user can correct and all workers meet at the same point, so that none waits for another in a collective."""


@dataclass(frozen=True)
class TrainJob:
    """Arguments of a training worker."""

    config: FinetuneConfig
    workers: TrainWorkers
    steps: int
    base: Path
    corpus: Path
    new_token_ids: tuple[int, ...]
    inflight: Path
    """Folder of the unfinished run, on storage that all nodes share; receives ``metrics.jsonl`` and ``checkpoints/``."""
    trained: Path
    """Folder for the trained weights."""
    labels: Labels = UNLABELED
    """Of the training's metrics."""
