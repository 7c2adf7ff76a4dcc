"""What the driver tells its workers, and the files through which they speak to each other: importing it loads no library of theirs."""

from dataclasses import dataclass
from pathlib import Path

from delia_ray.placement import TrainWorkers
from delia_ray.training.config import FinetuneConfig

METRICS = "metrics.jsonl"
"""The log, one line a step."""
REFUSED = "refused.txt"
"""What the user can fix, left by a worker."""
STOP = "stop"
"""A file of this name in the folder in flight asks the workers to write a checkpoint and return."""


@dataclass(frozen=True)
class Work:
    """Everything a worker is told."""

    config: FinetuneConfig
    workers: TrainWorkers
    steps: int
    start: Path
    corpus: Path
    new_token_ids: tuple[int, ...]
    inflight: Path
    """Folder on storage that all nodes share; receives ``metrics.jsonl`` and ``trained/``."""
