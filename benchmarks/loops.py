"""What the training loops of a benchmark have in common."""

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from benchmarks.inputs import WARM_STEPS, Inputs


def join() -> tuple[int, int]:
    """This process's rank, and how many there are, each with its share of the threads."""
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    if world > 1:
        torch.distributed.init_process_group("gloo")
    return rank, world


def parallel(module: Any, world: int) -> Any:
    return torch.nn.parallel.DistributedDataParallel(module) if world > 1 else module


def update(module: Any, optimizer: torch.optim.Optimizer, costs: list[Callable[[], torch.Tensor]], given: Inputs) -> None:
    """One step of AdamW; gradients are reduced once."""
    for number, cost in enumerate(costs):
        with module.no_sync() if hasattr(module, "no_sync") and number + 1 < len(costs) else nullcontext():
            cost().backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), given.config.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()


def timed(given: Inputs, step: Callable[[list[Any]], int]) -> dict[str, Any]:
    batches = given.batches()
    for rows in batches[:WARM_STEPS]:
        step(rows)
    began = time.perf_counter()
    learned = sum(step(rows) for rows in batches[WARM_STEPS:])
    return {"work": learned, "seconds": time.perf_counter() - began}
