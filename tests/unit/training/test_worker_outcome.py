"""How a training that ends early tells the driver why."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from delia_ray.core.errors import Stopped, UserError
from delia_ray.placement import TrainWorkers
from delia_ray.training import stage, worker
from delia_ray.training.checkpoint.agreement import OtherWorkerError
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.job import METRICS, STOP, USER_ERROR, CommonError, TrainJob


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    return TrainJob(FinetuneConfig(), TrainWorkers(), 3, tmp_path, tmp_path, (), tmp_path, tmp_path / "trained")


def raising(error: Exception) -> Callable[[TrainJob], NoReturn]:
    def train(job: TrainJob) -> NoReturn:
        raise error

    return train


@pytest.mark.parametrize(
    ("error", "world", "is_raised", "written"),
    [
        (UserError("why"), 1, False, "why"),
        (UserError("why"), 2, True, "why"),
        (CommonError("why"), 2, False, "why"),
        (OtherWorkerError(), 2, False, None),
    ],
    ids=["alone", "others may wait", "all have it", "another has it"],
)
def test_a_worker_that_others_may_wait_for_ends_with_an_error(
    job: TrainJob, monkeypatch: pytest.MonkeyPatch, error: Exception, world: int, is_raised: bool, written: str | None
):
    monkeypatch.setattr(worker, "_train", raising(error))
    monkeypatch.setattr(worker.train, "get_context", lambda: SimpleNamespace(get_world_size=lambda: world))
    if is_raised:
        with pytest.raises(UserError, match="why"):
            worker.run_worker(job)
    else:
        worker.run_worker(job)
    file = job.inflight / USER_ERROR
    assert (file.read_text() if file.exists() else None) == written


def log_steps(job: TrainJob, steps: int) -> None:
    (job.inflight / METRICS).write_text("".join(json.dumps({"step": step + 1}) + "\n" for step in range(steps)))


@pytest.mark.parametrize("steps", [2, 3])
def test_workers_that_end_without_a_reason_have_trained_nothing(job: TrainJob, steps: int):
    log_steps(job, steps)
    with pytest.raises(RuntimeError, match=rf"ended after {steps} of 3 steps; the same command goes on"):
        stage._raise_worker_outcome(job)  # pyright: ignore[reportPrivateUsage]


def test_a_stop_that_came_too_late_loses_no_training(job: TrainJob):
    log_steps(job, 2)
    (job.inflight / STOP).touch()
    with pytest.raises(Stopped) as stopped:
        stage._raise_worker_outcome(job)  # pyright: ignore[reportPrivateUsage]
    assert stopped.value.step == 2
    log_steps(job, 3)
    job.trained.mkdir()
    stage._raise_worker_outcome(job)  # pyright: ignore[reportPrivateUsage]
