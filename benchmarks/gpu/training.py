"""Speed, memory, and times to save and load of a training with this project's engine, on a model with random weights.

    python -m benchmarks.gpu.training --device cuda llama-3-8b/lora/zero1 llama-3-8b/lora/zero1/checkpointing

One process and its device: DeepSpeed partitions nothing there, so ZeRO's stages differ in what they cost and not in what they save.
On a CPU the models have their architecture and tiny sizes, and run the code that GPUs run.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.gpu.cases import TRAININGS, Training
from benchmarks.gpu.child import Figures, get_peak_gib, get_total_gib, reset_peak, run_cases, synchronize, time_calls
from benchmarks.gpu.shapes import build_model, build_model_config, count_parameters
from delia_ray.models import resolve_dtype
from delia_ray.placement import TrainWorkers
from delia_ray.training.checkpoint.state import load_state, save_state
from delia_ray.training.config import FinetuneConfig, Full, Lora
from delia_ray.training.data.packing import Pack, pack, packs_for_rank
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.engine import TrainEngine, apply_placement
from delia_ray.training.kernels.select import resolve_kernels
from delia_ray.training.metrics.mfu import PeakFlops
from delia_ray.training.metrics.step_metrics import StepResult
from delia_ray.training.model import make_trainable
from delia_ray.training.objective import is_stochastic
from delia_ray.upstream.deepspeed_zero import get_numel

NEW_TOKEN = 7
"""Its embeddings are trained beside the rest, as those of a task's new token are."""
DUMMY = pack([TokenizedRow([NEW_TOKEN, NEW_TOKEN], (0, 1), "task")])
"""A pack to create the optimizer's state on, before one is loaded."""
_WARM_STEPS, _TIMED_STEPS = 2, 3
_PACKS_PER_STEP = 2
_ROW_TOKENS, _TINY_ROW_TOKENS = (128, 512), (12, 24)
_PACK_TOKENS = ((70.0, 4096), (35.0, 2048), (0.0, 1024))
"""(GiB of the GPU, at least; tokens of a pack)."""
_TINY_PACK_TOKENS = 64
_BYTES_OF_A_WEIGHT, _BYTES_OF_TRAINING_ONE = 2, 14
"""A weight in bfloat16; where it is trained, its gradient in bfloat16, and in float32 itself and AdamW's two moments."""
_STATE_BYTES = 12
_MAX_STATE_GIB = 24.0
"""Largest state to save and load: the full state of a model with 7 billion weights takes 80 GiB and minutes."""


def measure(case: str, device: torch.device) -> Figures:
    """Tokens a second, MFU, peak memory, and seconds to save and to load the state."""
    training, total_gib = TRAININGS[case], get_total_gib(device)
    needed_gib = 0.0 if device.type == "cpu" else estimate_needed_gib(training)
    if needed_gib > total_gib:
        return {"outcome": "does not fit", "needs_gib": round(needed_gib, 1), "of_gib": total_gib}
    with tempfile.TemporaryDirectory() as folder:
        return _measure(training, Path(folder), device)


def estimate_needed_gib(training: Training) -> float:
    """GiB that weights, gradients and optimizer take at least, without activations."""
    weight_bytes = _BYTES_OF_A_WEIGHT + (_BYTES_OF_TRAINING_ONE if training.parameters == "full" else 0)
    return count_parameters(training.shape) * weight_bytes / 2**30


def _measure(training: Training, folder: Path, device: torch.device) -> Figures:
    start_process_group(device)
    peak = _measure_peak(device)
    reset_peak(device)
    began = time.perf_counter()
    run = prepare(training, build_config(training, device), folder, device, tiny=device.type == "cpu")
    synchronize(device)
    figures: Figures = {"start_s": round(time.perf_counter() - began, 2)}
    flops: list[float] = []
    seconds = time_calls(lambda: flops.append(run.step(len(flops)).flops), device, _WARM_STEPS + _TIMED_STEPS)
    step_s = median(seconds[_WARM_STEPS:])
    figures |= {
        "tokens_per_second": round(run.tokens / step_s, 1),
        "mfu": round(flops[-1] / step_s / peak.flops_per_second, 4),
        "peak_gib": get_peak_gib(device),
        "step_s": round(step_s, 4),
        "tokens": run.tokens,
        "pack_tokens": max(len(pack.ids_T) for pack in run.packs),
        "packing": run.engine.packing_mode,
        "peak_teraflops": round(peak.flops_per_second / 1e12, 1),
    }
    return figures | ({} if training.gradient_checkpointing else _measure_state(run.engine, folder))  # the state is the same


@dataclass(frozen=True)
class Run:
    """A training that is ready to step, always on the same rows."""

    engine: TrainEngine
    packs: Sequence[Pack]
    tokens: int
    """Of the rows of a step."""

    def step(self, number: int) -> StepResult:
        """Take step ``number``, from 0, with the dropout that belongs to it."""
        torch.manual_seed(number)
        return self.engine.step(self.packs, sum(len(pack.targets_S) for pack in self.packs))


def build_config(training: Training, device: torch.device) -> FinetuneConfig:
    """Build the configuration of a training, in the precision that it has on ``device``."""
    parameters = Lora() if training.parameters == "lora" else Full(kind="full")
    return FinetuneConfig(parameters=parameters, precision="float32" if device.type == "cpu" else "bfloat16")


def prepare(
    training: Training, config: FinetuneConfig, folder: Path, device: torch.device, *, tiny: bool, drawn_on: torch.device | None = None
) -> Run:
    """Prepare a training as a worker does, but with weights that are drawn.

    Args:
        folder: receives the model's configuration.
        tiny: whether the model keeps only its architecture.
        drawn_on: where the weights are drawn; None is ``device``.
    """
    dtype, max_tokens = resolve_dtype(config.precision), _TINY_PACK_TOKENS if tiny else choose_pack_tokens(device)
    model_config = build_model_config(training.shape, tiny=tiny)
    model_config.save_pretrained(folder)
    trainable = make_trainable(build_model(model_config, dtype, drawn_on or device), folder, [NEW_TOKEN], config)
    workers = build_workers(training, device, max_tokens)
    apply_placement(trainable, workers)
    engine = TrainEngine(trainable, config, workers, dtype)
    trainable.model.train()
    rows = build_random_rows(model_config.vocab_size, _PACKS_PER_STEP * max_tokens, _TINY_ROW_TOKENS if tiny else _ROW_TOKENS)
    packs = packs_for_rank(rows, 0, 1, max_tokens, stochastic=is_stochastic(trainable, config.objective))
    return Run(engine, packs, sum(len(row.ids) for row in rows))


def build_workers(training: Training, device: torch.device, max_tokens: int) -> TrainWorkers:
    """Build the placement of a worker with this device; on a CPU, too, it names the code that GPUs take by default."""
    chosen = {"loss": training.loss, "layers": training.layers}
    return TrainWorkers(
        num_gpus=int(device.type == "cuda"),
        micro_batch_tokens=max_tokens,
        zero_stage=training.zero_stage,
        gradient_checkpointing=training.gradient_checkpointing,
        kernels=resolve_kernels(TrainWorkers(num_gpus=1)).model_copy(update=chosen),
    )


def choose_pack_tokens(device: torch.device) -> int:
    """Tokens of a pack, by the memory of the device."""
    return next(tokens for gib, tokens in _PACK_TOKENS if get_total_gib(device) >= gib)


def build_random_rows(vocabulary: int, tokens: int, row_tokens: tuple[int, int]) -> list[TokenizedRow]:
    """Draw rows of random tokens, ``tokens`` in all, each with the new token in its prompt and its second half supervised."""
    numbers, rows = np.random.default_rng(0), list[TokenizedRow]()
    while tokens > 1:
        length = min(int(numbers.integers(*row_tokens)), tokens)
        ids = [NEW_TOKEN, *numbers.integers(10, vocabulary, length - 1).tolist()]
        rows.append(TokenizedRow(ids, [0] * (length - length // 2) + [1] * (length // 2), "task" if len(rows) % 2 else "diverse"))
        tokens -= length
    return rows


def start_process_group(device: torch.device) -> None:
    """Start a process group of this process alone, once."""
    if dist.is_initialized():
        return
    store = dist.TCPStore("127.0.0.1", 0, 1, True)  # pyright: ignore[reportPrivateImportUsage]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store, rank=0, world_size=1)


@cache
def _measure_peak(device: torch.device) -> PeakFlops:
    return PeakFlops(torch.float32 if device.type == "cpu" else torch.bfloat16, device)


def _measure_state(engine: TrainEngine, folder: Path) -> Figures:
    """Seconds to save the state of the training and to load it into the same engine, and its size."""
    state_gib = sum(map(get_numel, engine.trained_parameters.values())) * _STATE_BYTES / 2**30
    free_gib = shutil.disk_usage(folder).free / 2**30
    if state_gib > min(_MAX_STATE_GIB, free_gib / 2):
        return {"state_gib": round(state_gib, 1), "state": f"not saved: at most {_MAX_STATE_GIB:g} GiB, and {free_gib:.0f} are free"}
    (save_s,) = time_calls(lambda: save_state(engine, folder, 1), engine.device, 1)
    (load_s,) = time_calls(lambda: load_state(engine, folder, DUMMY), engine.device, 1)
    return {"state_gib": round(state_gib, 3), "save_s": round(save_s, 2), "load_s": round(load_s, 2)}


def _replaces_functions(case: str) -> bool:
    """ZeRO-3 replaces ``torch.nn.functional.linear`` for good."""
    return TRAININGS[case].zero_stage == 3


if __name__ == "__main__":
    run_cases(measure, _replaces_functions)
