"""Metrics to the places where people watch their runs, each through its own client and its own environment variables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from delia_ray.errors import UserError


class Tracker(Protocol):
    """Somewhere that metrics go."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send the metrics of one step."""
        ...


class TensorBoard:
    """Event files below the run, for ``tensorboard --logdir``."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard.writer import SummaryWriter  # noqa: PLC0415  optional

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()


class WandB:
    """Weights & Biases; ``WANDB_API_KEY``, ``WANDB_PROJECT`` and ``WANDB_MODE`` say where."""

    def __init__(self, folder: Path):
        import wandb  # noqa: PLC0415  # pyright: ignore[reportMissingImports]  optional

        self._run: Any = wandb.init(dir=str(folder), name=_name(folder), id=_name(folder), resume="allow")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)


class MLflow:
    """MLflow; ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` say where."""

    def __init__(self, folder: Path):
        import mlflow  # noqa: PLC0415  # pyright: ignore[reportMissingImports]  optional

        self._client: Any = mlflow
        mlflow.start_run(run_name=_name(folder))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._client.log_metrics(dict(metrics), step=step)


_KINDS = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


def open_trackers(names: Sequence[str], folder: Path) -> list[Tracker]:
    """The named trackers, ready to log.

    Raises:
        UserError: a tracker's package is not installed.
    """
    trackers: list[Tracker] = []
    for name in names:
        try:
            trackers.append(_KINDS[name](folder))
        except ImportError:
            raise UserError(
                f"placement.finetune.trackers: `{name}` is not installed on the workers; `pip install {name}`, or leave it out"
            ) from None
    return trackers


def _name(folder: Path) -> str:
    """``<run>-<arm>-<fingerprint>`` from ``<run>/arms/<arm>/.checkpoint.inflight-<fingerprint>``."""
    run, arm = folder.parents[2].name, folder.parent.name
    return f"{run}-{arm}-{folder.name.rpartition('-')[2]}"
