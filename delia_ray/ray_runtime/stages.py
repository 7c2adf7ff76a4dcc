"""The stages of a run, as a progress display and the metrics both know them."""

from collections.abc import Generator
from contextlib import contextmanager

from delia_ray.core.progress import Progress, ProgressLine
from delia_ray.ray_runtime.metrics import Labels, in_stage


class MeteredProgress:
    """A ``Progress`` that shows what another one shows, and marks each stage in the run's metrics while it runs."""

    def __init__(self, progress: Progress, run: str):
        self._progress, self._run = progress, run

    @contextmanager
    def stage(self, name: str, arm: str = "") -> Generator[ProgressLine]:
        """Open the line of stage ``name``."""
        stage = " ".join(word for word in name.split() if word != arm)
        with in_stage(Labels(self._run, stage, arm)), self._progress.stage(name, arm) as line:
            yield line


def meter(progress: Progress, run: str) -> Progress:
    """Return ``progress`` with its stages in the metrics of ``run``."""
    return progress if isinstance(progress, MeteredProgress) else MeteredProgress(progress, run)
