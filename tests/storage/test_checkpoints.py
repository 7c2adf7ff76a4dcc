"""Checkpoints of a training in an object store: uploaded while it goes on, and complete when every worker's part is there."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from object_store import Store
from process_groups import single_process_group
from transformers import LlamaConfig, LlamaForCausalLM

from delia_ray.core.storage.objects import list_files, remove
from delia_ray.placement import TrainWorkers
from delia_ray.training.checkpoint.manager import CheckpointManager
from delia_ray.training.config import FinetuneConfig, Full
from delia_ray.training.data.packing import pack
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.engine import TrainEngine
from delia_ray.training.model import build_trainable

CONFIG = FinetuneConfig(parameters=Full(kind="full"), precision="float32")
PACK = pack([TokenizedRow(list(range(12)), [0] * 6 + [1] * 6, "task")])


@pytest.fixture(scope="module", autouse=True)
def process_group() -> Iterator[None]:
    with single_process_group():
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    sizes = LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=64)
    LlamaForCausalLM(sizes).save_pretrained(folder)
    return folder


@pytest.fixture
def engine(base: Path) -> TrainEngine:
    return TrainEngine(build_trainable(base, (), CONFIG, torch.float32), CONFIG, TrainWorkers(), torch.float32)


def open_checkpoints(run: Path) -> CheckpointManager:
    return CheckpointManager(run / "inflight", run / "inflight" / "trained")


def save(engine: TrainEngine, run: Path, steps: int) -> CheckpointManager:
    checkpoints = open_checkpoints(run)
    for step in range(1, steps + 1):
        engine.step([PACK], 6)
        checkpoints.save(engine, step)
    return checkpoints


def test_another_machine_goes_on_from_the_newest_checkpoint_of_two(engine: TrainEngine, run: Path, other: Path):
    save(engine, run, 4).wait()
    assert open_checkpoints(other).restore(engine, PACK) == 4
    assert {file.name.partition(".")[0] for file in list_files(run / "inflight/checkpoints")} == {f"step-{step:08d}" for step in (3, 4)}


def test_a_checkpoint_that_a_worker_has_not_uploaded_is_none(engine: TrainEngine, run: Path, other: Path):
    save(engine, run, 2).wait()
    remove(run / "inflight/checkpoints/step-00000002.uploaded-0-of-1")
    assert open_checkpoints(other).restore(engine, PACK) == 1


def test_training_does_not_wait_for_a_store_that_is_slow(engine: TrainEngine, run: Path, other: Path, store: Store):
    engine.step([PACK], 6)
    store.fail_for(4)
    started, checkpoints = time.monotonic(), open_checkpoints(run)
    checkpoints.save(engine, 1)
    assert time.monotonic() - started < 2
    checkpoints.wait()
    assert time.monotonic() - started > 3
    assert open_checkpoints(other).restore(engine, PACK) == 1
