"""The training engine with each ZeRO stage, with gradient checkpointing, and with its state saved and loaded."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from benchmarks.gpu.cases import Parameters, Stage, Training
from benchmarks.gpu.training import DUMMY, Run, build_config, prepare, start_process_group
from delia_ray.training.checkpoint.state import load_state, save_state

SHAPE = "llama-3-8b"
STEPS = 4
PLACES: tuple[tuple[Stage, bool], ...] = ((0, False), (2, False), (3, False), (1, True), (3, True))
"""ZeRO stages, without and with gradient checkpointing."""
PRECISIONS = {"cpu": ("float32", "bfloat16"), "cuda": ("bfloat16",)}
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}
"""Of a mean loss, in nats."""


@pytest.fixture(scope="module", autouse=True)
def process_group() -> Iterator[None]:
    """A process group of this process alone."""
    environment = dict(os.environ)
    start_process_group(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    yield
    dist.destroy_process_group()
    for name in set(os.environ) - set(environment):
        del os.environ[name]


@pytest.fixture(autouse=True)
def linear() -> Iterator[None]:
    """ZeRO-3 replaces ``torch.nn.functional.linear`` for good, so it is put back for other tests."""
    original = torch.nn.functional.linear
    yield
    torch.nn.functional.linear = original


def start(training: Training, precision: str, folder: Path, device: torch.device, drawn_on: torch.device | None = None) -> Run:
    """A training of a tiny model whose loss falls fast."""
    changed = {"precision": precision, "learning_rate": 5e-3, "warmup_steps": 0}
    config = build_config(training, device).model_copy(update=changed)
    return prepare(training, config, folder, device, tiny=True, drawn_on=drawn_on)


def list_losses(run: Run, steps: range) -> list[float]:
    return [run.step(step).loss for step in steps]


@pytest.mark.parametrize("parameters", ["lora", "full"])
def test_neither_the_zero_stage_nor_checkpointing_changes_the_losses(device: torch.device, parameters: Parameters, tmp_path: Path) -> None:
    for precision in PRECISIONS[device.type]:
        expected = list_losses(start(Training(SHAPE, parameters, 1), precision, tmp_path, device), range(STEPS))
        assert expected[-1] < expected[0] - 10 * TOLERANCE[precision], "nothing was learned"
        for stage, checkpointing in PLACES:
            training = Training(SHAPE, parameters, stage, checkpointing)
            losses = list_losses(start(training, precision, tmp_path, device), range(STEPS))
            assert losses == pytest.approx(expected, abs=TOLERANCE[precision]), (training.name, precision)


@pytest.mark.parametrize("parameters", ["lora", "full"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_training_goes_on_from_its_saved_state(device: torch.device, stage: Stage, parameters: Parameters, tmp_path: Path) -> None:
    training = Training(SHAPE, parameters, stage)
    for precision in PRECISIONS[device.type]:
        folder = tmp_path / precision
        folder.mkdir()
        run = start(training, precision, tmp_path, device)
        list_losses(run, range(2))
        save_state(run.engine, folder, 2)
        expected = list_losses(run, range(2, STEPS))
        resumed = start(training, precision, tmp_path, device)
        assert load_state(resumed.engine, folder, DUMMY) == 2
        assert list_losses(resumed, range(2, STEPS)) == pytest.approx(expected, abs=TOLERANCE[precision]), precision


@pytest.mark.gpu
def test_a_model_that_is_loaded_on_the_cpu_trains_as_one_that_is_drawn_on_the_gpu(gpu: torch.device, tmp_path: Path) -> None:
    training = Training(SHAPE, "lora")
    runs = [start(training, "bfloat16", tmp_path, gpu, drawn_on) for drawn_on in (torch.device("cpu"), gpu)]
    first, second = (list_losses(run, range(STEPS)) for run in runs)
    assert first[-1] < first[0] - 10 * TOLERANCE["bfloat16"] and second[-1] < second[0] - 10 * TOLERANCE["bfloat16"]
