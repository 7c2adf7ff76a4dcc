"""A short training run on a small model in float32, and what is asked of its curve."""

from pathlib import Path
from typing import Any

import numpy as np

from delia_ray.artifacts import Artifact, Provenance
from delia_ray.placement import TrainWorkers
from delia_ray.records import keyed_int
from delia_ray.terminal import StageLine
from delia_ray.training.config import FinetuneConfig, Lora
from delia_ray.training.log import read_metrics
from delia_ray.training.stage import Request, finetune

PROVENANCE = Provenance(None, ["pytest"])
TOKEN = "<sep>"
STEPS = 50
CONFIG = FinetuneConfig(
    parameters=Lora(rank=4, dropout=0.0),
    learning_rate=5e-4,
    warmup_steps=5,
    batch_rows=8,
    max_row_tokens=128,
    checkpoint_every=20,
    precision="float32",
)


def row(group: str, n: int) -> dict[str, Any]:
    """Row ``n`` of a group of a mixture."""
    asked = f"Judge this with {TOKEN}: {n}." if group == "task" else f"Tell me a story that is {n} words long and has a fox in it."
    answered = "yes " * (n % 5 + 1) if group == "task" else "once upon a time there was a fox " * (n % 4 + 1)
    identifier = f"{group}-{n}"
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    key = keyed_int(0, "order", identifier)
    return {"example_id": identifier, "group": group, "messages": messages, "label": None, "order_key": key}


def train(start: Artifact, mixed: Artifact, out: Path, config: FinetuneConfig = CONFIG, steps: int = STEPS, **workers: Any) -> Artifact:
    request = Request(finetune=config, steps=steps, new_tokens=(TOKEN,))
    return finetune(request, start, mixed, TrainWorkers(**workers), lambda: None, StageLine("test"), out, PROVENANCE)


def losses(checkpoint: Artifact, name: str = "loss") -> np.ndarray:
    return np.array([line[name] for line in read_metrics(checkpoint.data / "metrics.jsonl")])


def assert_same_curve(found: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-5) -> None:
    """Within ``tolerance`` at every step, and off in both directions: rounding scatters, a mistake in the sums drifts."""
    residuals = found - wanted
    assert len(found) == len(wanted) and np.abs(residuals).max() <= tolerance, residuals
    standard_error = residuals.std() / len(residuals) ** 0.5
    assert abs(residuals.mean()) <= 4 * standard_error + 2e-7, residuals


def steps_in(folder: Path) -> int:
    """Steps that runs in flight in ``folder`` have taken."""
    return sum(len(file.read_text().splitlines()) for file in folder.glob(".checkpoint.inflight-*/metrics.jsonl"))
