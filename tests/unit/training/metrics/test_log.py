import json
import math
import os
from pathlib import Path

import pytest
import torch

from delia_ray.core.errors import UserError
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.metrics import mfu
from delia_ray.training.metrics.log import MetricsTail, StepLog
from delia_ray.training.metrics.mfu import PeakFlops
from delia_ray.training.metrics.step_metrics import StepResult

ROWS = [TokenizedRow([1, 2, 3], [0, 1, 1], "task"), TokenizedRow([4, 5], [0, 1], "task")]


def build_result(loss: float = 0.5) -> StepResult:
    return StepResult(
        loss=loss, group_losses={"task": loss, "diverse": None}, kind_losses={"text": loss}, supervised_tokens=3,
        gradient_norm=1.0, update_norm=0.1, learning_rate=1e-4, flops=100.0,
    )  # fmt: skip


def open_log(folder: Path, monkeypatch: pytest.MonkeyPatch, rank: int = 0) -> StepLog:
    monkeypatch.setattr(mfu, "_CPU_SIZE", 8)
    return StepLog(folder, (), PeakFlops(torch.float32, torch.device("cpu")), rank, 2)


def test_a_resumed_log_drops_the_steps_after_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    step_log = open_log(tmp_path, monkeypatch)
    for step in (1, 2, 3):
        step_log.write(step, ROWS, build_result(), list)
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 4, "lo')
    step_log.resume(2)
    step_log.write(3, ROWS, build_result(loss=0.25), list)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"], line["tokens"]) for line in lines] == [(1, 0.5, 5), (2, 0.5, 5), (3, 0.25, 5)]
    assert lines[0]["diverse_loss"] is None and lines[0]["text_loss"] == 0.5


def test_only_the_first_worker_writes_and_all_stop_at_a_loss_that_is_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    step_log = open_log(tmp_path, monkeypatch, rank=1)
    step_log.write(1, ROWS, build_result(), list)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"step 2: the loss is nan .* on rows task-1, task-2; lower finetune\.learning_rate"):
        step_log.write(2, ROWS, build_result(loss=math.nan), lambda: ["task-1", "task-2"])


def test_progress_follows_a_log_that_a_resumed_run_has_truncated(tmp_path: Path):
    log = tmp_path / "metrics.jsonl"
    line = '{"step": 1, "tokens": 7}\n'
    log.write_text(line * 3)
    tail = MetricsTail(log)
    assert tail.read() == (3, 0)
    log.open("a").write(line + '{"step": 5, "tok')
    assert tail.read() == (4, 7)
    (tmp_path / "new").write_text(line * 2)
    os.replace(tmp_path / "new", log)
    log.open("a").write(line * 4)
    assert tail.read() == (6, 7)
    log.open("a").write(line)
    assert tail.read() == (7, 14)
