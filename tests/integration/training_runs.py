"""A short training run on a small model in float32, and assertions about its loss curve."""

from pathlib import Path
from typing import Any

import numpy as np

from delia_ray.cli.terminal import StageLine
from delia_ray.core.artifacts import Artifact, Provenance
from delia_ray.core.records import keyed_int
from delia_ray.placement import TrainWorkers
from delia_ray.training.config import FinetuneConfig, Lora
from delia_ray.training.metrics.log import read_metrics
from delia_ray.training.stage import FinetuneRequest, finetune

PROVENANCE = Provenance(None, ["pytest"])
TOKEN = "<sep>"
STEPS = 50
CONFIG = FinetuneConfig(
    parameters=Lora(rank=4, dropout=0.0),
    learning_rate=5e-4,
    warmup_steps=5,
    global_batch_size=8,
    max_seq_len=128,
    checkpoint_every=20,
    precision="float32",
)


def row(group: str, n: int) -> dict[str, Any]:
    """Build row ``n`` of a group of a mixture."""
    question = f"Judge this with {TOKEN}: {n}." if group == "task" else f"Tell me a story that is {n} words long and has a fox in it."
    answer = "yes " * (n % 5 + 1) if group == "task" else "once upon a time there was a fox " * (n % 4 + 1)
    example_id = f"{group}-{n}"
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    key = keyed_int(0, "order", example_id)
    return {"example_id": example_id, "group": group, "messages": messages, "label": None, "order_key": key}


def train(base: Artifact, mixed: Artifact, out: Path, config: FinetuneConfig = CONFIG, steps: int = STEPS, **workers: Any) -> Artifact:
    request = FinetuneRequest(finetune=config, steps=steps, new_tokens=(TOKEN,))
    return finetune(request, base, mixed, TrainWorkers(**workers), lambda _=None: None, StageLine("test"), out, PROVENANCE)


def losses(checkpoint: Artifact, name: str = "loss") -> np.ndarray:
    return np.array([line[name] for line in read_metrics(checkpoint.data / "metrics.jsonl")])


def assert_same_curve(curve: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    """Assert that two loss curves differ by at most ``tolerance`` and without drift: rounding scatters around 0, a mistake drifts."""
    residuals = curve - expected
    assert len(curve) == len(expected) and np.abs(residuals).max() <= tolerance, residuals
    standard_error = residuals.std() / len(residuals) ** 0.5
    assert abs(residuals.mean()) <= 4 * standard_error + 2e-7, residuals


def count_logged_steps(folder: Path) -> int:
    """Count the steps that unfinished runs in ``folder`` have logged."""
    return sum(len(file.read_text().splitlines()) for file in folder.glob(".checkpoint.inflight-*/metrics.jsonl"))
