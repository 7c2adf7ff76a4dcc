"""Workers that each hold a part of the model learn what one with the whole does, and take less memory the more they are."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from delia_ray.models import load_model

WORKER = Path(__file__).with_name("zero3_worker.py")
Train = Callable[..., tuple[list[dict[str, Any]], Path]]


def write_model(folder: Path, **sizes: Any) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def train(tmp_path: Path) -> Train:
    def run(base: Path, workers: int, stage: int, *checkpoint: Path) -> tuple[list[dict[str, Any]], Path]:
        out = tmp_path / f"{workers}-{stage}-{len(checkpoint)}"
        (out / "checkpoint").mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        words = [str(word) for word in (workers, port, base, out, stage, *checkpoint)]
        processes = [
            subprocess.Popen([sys.executable, WORKER, str(rank), *words], stdout=subprocess.PIPE, text=True) for rank in range(workers)
        ]
        try:
            said = [process.communicate(timeout=600)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert not any(process.returncode for process in processes), said
        return [json.loads(each.splitlines()[-1]) for each in said], out

    return run


@pytest.mark.slow
def test_workers_with_parts_of_the_model_learn_what_one_with_the_whole_learns(train: Train, tmp_path: Path):
    """Sizes that three workers cannot divide, and weights that are partitioned: DeepSpeed keeps those below 100,000 elements whole."""
    base = write_model(tmp_path / "base", hidden_size=88, intermediate_size=1408, num_hidden_layers=2, vocab_size=1600)
    [whole], one = train(base, 1, 1)
    parts, three = train(base, 3, 3)
    assert all(each["losses"] == pytest.approx(whole["losses"], abs=1e-5) for each in parts)
    weights, others = (load_model(out / "trained" / "full", torch.float32).state_dict() for out in (one, three))
    assert weights.keys() == others.keys()
    # Adam makes a step of any gradient, so elements whose gradient is rounding alone differ.
    assert all((weights[name] - others[name]).abs().gt(1e-5).float().mean() < 1e-3 for name in weights)
    for workers, stage in ((2, 3), (3, 3), (1, 1)):
        resumed, _ = train(base, workers, stage, three / "checkpoint")
        assert all(each["losses"] == pytest.approx(whole["losses"][2:], abs=1e-5) for each in resumed)


@pytest.mark.slow
def test_a_worker_takes_less_memory_the_more_they_are(train: Train, tmp_path: Path):
    """Loading, training, checkpoint and result together; and the same from a checkpoint."""
    base = write_model(tmp_path / "base", hidden_size=512, intermediate_size=2048, num_hidden_layers=8, vocab_size=8000)
    trained = {workers: train(base, workers, 3) for workers in (1, 2, 4)}
    resumed = {workers: train(base, workers, 3, trained[1][1] / "checkpoint") for workers in (1, 2, 4)}
    for runs in (trained, resumed):
        peaks = {workers: max(each["peak"] for each in said) for workers, (said, _) in runs.items()}
        print(peaks)
        assert peaks[2] < 0.9 * peaks[1]
        assert peaks[4] < 0.7 * peaks[1]
