"""A run while it is in the air: what each step is logged as, and the checkpoints that it can go on from."""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist
from ray import train

from delia_ray.errors import UserError
from delia_ray.training.engine import TrainEngine
from delia_ray.training.flops import MatmulPeak
from delia_ray.training.ledger import StepResult
from delia_ray.training.packing import Pack
from delia_ray.training.state import load_state, save_state
from delia_ray.training.tokens import TokenisedRow
from delia_ray.training.tracking import Tracker, open_trackers
from delia_ray.training.work import METRICS

_KEPT = 2


class Flight:
    """Log and checkpoints of one worker. All workers call the same methods; the first one writes the log."""

    def __init__(self, inflight: Path, trackers: Sequence[str], peak: MatmulPeak):
        self._inflight = inflight
        self._checkpoints = inflight / "checkpoints"
        self._peak = peak
        self._world = train.get_context().get_world_size()
        self._first = train.get_context().get_world_rank() == 0
        self._trackers: list[Tracker] = open_trackers(trackers, inflight) if self._first else []
        self._step, self._tokens, self._seconds = 0, 0, 0.0
        self._began = time.monotonic()

    def resume(self, engine: TrainEngine, filler: Pack) -> int:
        """Go on from the newest checkpoint: the number of steps that are done.

        Raises:
            UserError: the checkpoint cannot be used.
        """
        if finished := self._finished():
            self._step = load_state(engine, finished[-1], filler)
        if self._first:
            _forget_after(self._inflight, self._step)
        self._began = time.monotonic()
        return self._step

    def land(self, step: int, rows: Sequence[TokenisedRow], result: StepResult, example_ids: Callable[[], Sequence[str]]) -> None:
        """Log ``step`` (from 1), which took ``rows``, and the time since the one before, without a checkpoint's or the peak's.

        Raises:
            UserError: its loss is no number.
        """
        self._step, self._tokens, self._seconds = step, sum(len(row.ids) for row in rows), time.monotonic() - self._began
        self._peak.try_again()
        self._began = time.monotonic()
        if not math.isfinite(result.loss) or not math.isfinite(result.gradient_norm):
            raise UserError(
                f"step {self._step}: the loss is {result.loss} and the gradient's norm {result.gradient_norm}, on rows "
                f"{', '.join(example_ids())}; lower finetune.learning_rate, or look at those rows"
            )
        if not self._first:
            return
        line = self._line(result)
        with (self._inflight / METRICS).open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        for tracker in self._trackers:
            tracker.log(self._step, {name: value for name, value in line.items() if value is not None})

    def _line(self, result: StepResult) -> dict[str, Any]:
        return {
            "step": self._step,
            "loss": result.loss,
            **{f"{group}_loss": loss for group, loss in result.group_losses.items()},
            **{f"{kind}_loss": loss for kind, loss in result.kind_losses.items()},
            "learning_rate": result.learning_rate,
            "grad_norm": result.gradient_norm,
            "update_norm": result.update_norm,
            "tokens": self._tokens,
            "learnt_tokens": result.learnt_tokens,
            "tokens_per_second": round(self._tokens / self._seconds, 1),
            "learnt_tokens_per_second": round(result.learnt_tokens / self._seconds, 1),
            "matmul_peak_share": round(result.flops / self._seconds / (self._peak.flops_per_second * self._world), 4),
        }

    def checkpoint(self, engine: TrainEngine) -> None:
        """Write the state after the step that landed last, whole or not at all, and forget all but the newest two."""
        folder = self._checkpoints / f"step-{self._step:08d}"
        scratch = folder.with_name(f".{folder.name}")
        if self._first:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
        dist.barrier()
        save_state(engine, scratch, self._step)
        dist.barrier()
        if self._first:
            os.replace(scratch, folder)
            for older in self._finished()[:-_KEPT]:
                shutil.rmtree(older)
        self._began = time.monotonic()

    def close(self) -> None:
        """Let the trackers send what is left."""
        for tracker in self._trackers:
            tracker.close()

    def _finished(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(self._checkpoints.glob("step-*"))


def _forget_after(inflight: Path, done: int) -> None:
    """Drop what an interrupted attempt logged beyond the checkpoint it left."""
    shutil.rmtree(inflight / "trained", ignore_errors=True)
    metrics = inflight / METRICS
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    scratch = metrics.with_suffix(".partial")
    scratch.write_text("".join(line + "\n" for line in lines if line.endswith("}") and json.loads(line)["step"] <= done))
    os.replace(scratch, metrics)
