"""Receivers of a training's metrics: Ray's endpoint, and TensorBoard, Weights & Biases and MLflow, each through its own client."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from delia_ray.core.errors import UserError
from delia_ray.ray_runtime.metrics import Labels, record

TRACKER_FOLDERS = ("tensorboard", "wandb")
"""Folders that the clients write next to ``metrics.jsonl`` and that are kept in the checkpoint: event files, offline runs."""


class Tracker(Protocol):
    """Receiver of the metrics of each step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send the metrics of one step."""
        ...

    def close(self) -> None:
        """Send what is not sent yet. Nothing is logged afterwards."""
        ...


_GAUGES = {
    "loss": "delia_ray_train_loss",
    "tokens_per_second": "delia_ray_train_tokens_per_s",
    "mfu": "delia_ray_mfu",
}
"""Metric of a step -> metric on Ray's endpoint."""


class RayMetrics:
    """The run's metrics on Ray's Prometheus endpoint (docs/observability.md), where Ray runs."""

    def __init__(self, labels: Labels):
        self._labels = labels

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        record("delia_ray_train_step", step, self._labels)
        record("delia_ray_tokens", metrics["tokens"], self._labels)
        for key, name in _GAUGES.items():
            record(name, metrics[key], self._labels)

    def close(self) -> None:
        pass


class TensorBoard:
    """TensorBoard: event files for ``tensorboard --logdir <run>``."""

    def __init__(self, folder: Path):
        from tensorboardX import SummaryWriter  # noqa: PLC0415  seconds to import

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandB:
    """Weights & Biases, configured by ``WANDB_API_KEY``, ``WANDB_PROJECT`` and ``WANDB_MODE``."""

    def __init__(self, folder: Path):
        import wandb  # noqa: PLC0415  # pyright: ignore[reportMissingImports]  optional

        self._run: Any = wandb.init(dir=str(folder), name=_build_run_name(folder), id=_build_run_name(folder), resume="allow")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """MLflow, configured by ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME``."""

    def __init__(self, folder: Path):
        import mlflow  # noqa: PLC0415  # pyright: ignore[reportMissingImports]  optional

        self._client: Any = mlflow
        mlflow.start_run(run_name=_build_run_name(folder))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._client.log_metrics(dict(metrics), step=step)

    def close(self) -> None:
        self._client.end_run()


_TRACKERS = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


def open_trackers(names: Sequence[str], folder: Path) -> list[Tracker]:
    """Open the named trackers.

    Raises:
        UserError: a tracker's package is not installed.
    """
    trackers: list[Tracker] = []
    for name in names:
        try:
            trackers.append(_TRACKERS[name](folder))
        except ImportError:
            raise UserError(
                f"placement.finetune.trackers: `{name}` is not installed on the workers; `pip install {name}`, or leave it out"
            ) from None
    return trackers


def _build_run_name(folder: Path) -> str:
    """Build the run name ``<run>-<arm>-<fingerprint>`` from ``<run>/arms/<arm>/.checkpoint.inflight-<fingerprint>``."""
    run, arm = folder.parents[2].name, folder.parent.name
    return f"{run}-{arm}-{folder.name.rpartition('-')[2]}"
