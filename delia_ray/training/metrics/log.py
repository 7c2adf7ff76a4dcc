"""The metrics log ``metrics.jsonl``, one JSON line per training step: writing it, following it, and reading it when it is complete."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delia_ray.core.errors import UserError
from delia_ray.core.storage.objects import read_bytes
from delia_ray.core.storage.paths import is_remote
from delia_ray.core.storage.transfer import fetch
from delia_ray.core.storage.uploader import Uploader
from delia_ray.ray_runtime.metrics import UNLABELED, Labels
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.job import METRICS, CommonError
from delia_ray.training.metrics.trackers import TRACKER_FOLDERS, RayMetrics, Tracker, open_trackers

_UPLOAD_SECONDS = 3.0

if TYPE_CHECKING:  # the driver reads logs, and torch takes seconds to import
    from delia_ray.training.metrics.mfu import PeakFlops
    from delia_ray.training.metrics.step_metrics import StepResult


class StepLog:
    """Log of the training steps of one worker. All workers call the same methods; rank 0 writes ``metrics.jsonl`` and the trackers."""

    def __init__(self, inflight: Path, trackers: Sequence[str], peak: "PeakFlops", rank: int, world: int, labels: Labels = UNLABELED):
        """``labels`` are those of the training's metrics."""
        self._file = inflight / METRICS
        if rank == 0:  # this node may lack what another has logged
            inflight.mkdir(parents=True, exist_ok=True)
            for name in (METRICS, *TRACKER_FOLDERS):
                fetch(inflight / name)
        self._peak = peak
        self._world = world
        self._is_first_worker = rank == 0
        self._trackers: list[Tracker] = [RayMetrics(labels), *open_trackers(trackers, inflight)] if self._is_first_worker else []
        self._uploader = (
            Uploader(partial(_list_logged, inflight), _UPLOAD_SECONDS) if self._is_first_worker and is_remote(inflight) else None
        )
        self._step_start = time.monotonic()

    def resume(self, step: int) -> None:
        """Continue after ``step`` finished steps: drop later lines, which an interrupted attempt logged, and start timing."""
        if self._is_first_worker:
            _truncate(self._file, step)
        self.start_timer()

    def start_timer(self) -> None:
        """Start timing the next step now, so that what ran since the last ``write``, such as a checkpoint, is not counted."""
        self._step_start = time.monotonic()

    def write(self, step: int, rows: Sequence[TokenizedRow], result: "StepResult", get_example_ids: Callable[[], Sequence[str]]) -> None:
        """Log the metrics of ``step`` (from 1), which trained on ``rows``, and start timing the next one.

        Args:
            get_example_ids: gives the ids of ``rows``, for the error.

        Raises:
            CommonError: the loss or the gradient norm is not finite.
        """
        tokens, seconds = sum(len(row.ids) for row in rows), time.monotonic() - self._step_start
        self._peak.measure_again()
        self.start_timer()
        if not math.isfinite(result.loss) or not math.isfinite(result.gradient_norm):
            raise CommonError(
                f"step {step}: the loss is {result.loss} and the gradient norm {result.gradient_norm}, on rows "
                f"{', '.join(get_example_ids())}; lower finetune.learning_rate, or look at those rows"
            )
        if not self._is_first_worker:
            return
        line = {"step": step, **self._build_metrics(result, tokens, seconds)}
        with self._file.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        for tracker in self._trackers:
            tracker.log(step, {name: value for name, value in line.items() if value is not None})

    def _build_metrics(self, result: "StepResult", tokens: int, seconds: float) -> dict[str, Any]:
        return {
            "loss": result.loss,
            **{f"{group}_loss": loss for group, loss in result.group_losses.items()},
            **{f"{kind}_loss": loss for kind, loss in result.kind_losses.items()},
            "learning_rate": result.learning_rate,
            "grad_norm": result.gradient_norm,
            "update_norm": result.update_norm,
            "tokens": tokens,
            "supervised_tokens": result.supervised_tokens,
            "tokens_per_second": round(tokens / seconds, 1),
            "supervised_tokens_per_second": round(result.supervised_tokens / seconds, 1),
            "mfu": round(result.flops / seconds / (self._peak.flops_per_second * self._world), 4),
        }

    def flush(self) -> None:
        """Make sure that another node finds every line so far, as after a checkpoint."""
        if self._uploader is not None:
            self._uploader.sync()

    def close(self) -> None:
        """Let the trackers send what they still hold."""
        for tracker in self._trackers:
            tracker.close()
        if self._uploader is not None:
            self._uploader.stop()
            self._uploader.sync()


def _list_logged(inflight: Path) -> Iterator[Path]:
    """List the log and the trackers' files."""
    yield inflight / METRICS
    yield from (file for folder in TRACKER_FOLDERS for file in (inflight / folder).rglob("*") if file.is_file())


def _truncate(file: Path, step: int) -> None:
    """Keep the complete lines of the first ``step`` steps in ``file``; replaces the file atomically."""
    lines = file.read_text().splitlines() if file.exists() else []
    scratch = file.with_suffix(".partial")
    scratch.write_text("".join(line + "\n" for line in lines if line.endswith("}") and json.loads(line)["step"] <= step))
    os.replace(scratch, file)


class MetricsTail:
    """Progress of a training run, read from a metrics log that is still being written: all steps, and the tokens since construction."""

    def __init__(self, file: Path):
        self._file = file
        self._inode, self._offset, self._steps, self._tokens = 0, 0, 0, 0
        self._next_look = 0.0
        self.read()
        self._tokens = 0

    def read(self) -> tuple[int, int]:
        """Read the new lines; return the number of logged steps, and of tokens since construction."""
        if is_remote(self._file):
            is_replaced, new = self._read_object()
        elif self._file.exists():
            is_replaced, new = self._read_file()
        else:
            return 0, 0
        complete = new[: new.rfind(b"\n") + 1]
        lines = [json.loads(text) for text in complete.splitlines()]
        self._offset += len(complete)
        self._steps += len(lines)
        self._tokens += 0 if is_replaced else sum(line["tokens"] for line in lines)
        return self._steps, self._tokens

    def _read_file(self) -> tuple[bool, bytes]:
        """Return whether the file was replaced since the last time, and what is new in it."""
        with self._file.open("rb") as stream:
            inode = os.fstat(stream.fileno()).st_ino
            is_replaced = inode != self._inode  # a resumed run replaces the file by one without the steps after its checkpoint
            if is_replaced:
                self._inode, self._offset, self._steps = inode, 0, 0
            stream.seek(self._offset)
            return is_replaced, stream.read()

    def _read_object(self) -> tuple[bool, bytes]:
        """As ``_read_file``, every few seconds, from the bucket: a worker of another node writes it."""
        if time.monotonic() < self._next_look:
            return False, b""
        self._next_look = time.monotonic() + _UPLOAD_SECONDS
        try:
            text = read_bytes(self._file)
        except (FileNotFoundError, UserError):  # not there yet, or the store fails for a while
            return False, b""
        is_replaced = len(text) < self._offset
        if is_replaced or not self._inode:
            self._inode, self._offset, self._steps = 1, 0, 0
            return True, text
        return False, text[self._offset :]


def read_metrics(file: Path) -> list[dict[str, float]]:
    """Read the lines of a complete ``metrics.jsonl``, one per step."""
    return [json.loads(text) for text in file.read_text().splitlines()]


def summarize(lines: Sequence[dict[str, Any]]) -> dict[str, int | float]:
    """Summarize the metrics of a finished run: its steps, its tokens, and the median speed."""
    speeds = sorted(line["tokens_per_second"] for line in lines)
    return {"steps": len(lines), "tokens": sum(line["tokens"] for line in lines), "tokens_per_second": speeds[len(speeds) // 2]}
