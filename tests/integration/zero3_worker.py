"""One of several training workers with a part of the model each, as a process.

RANK WORLD PORT BASE OUT STAGE [CHECKPOINT]: train, write a checkpoint, go on, write the result; or go on from CHECKPOINT.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from memory_peaks import measure_peak

from delia_ray.placement import TrainWorkers
from delia_ray.training.checkpoint.state import load_state, save_state
from delia_ray.training.config import FinetuneConfig, Full
from delia_ray.training.data.packing import Pack, pack
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.deepspeed_settings import build_deepspeed_config
from delia_ray.training.engine import TrainEngine
from delia_ray.training.model import Trainable, build_trainable
from delia_ray.training.worker import save_result

TOKEN = 7
CONFIG = FinetuneConfig(parameters=Full(kind="full"), learning_rate=1e-3, warmup_steps=2, precision="float32")
ROWS = [TokenizedRow([TOKEN, *range(first, first + 12)], [0] * 3 + [1] * 10, "task") for first in range(100, 1300, 100)]
SUPERVISED = 10 * len(ROWS)
STEPS = 2
FILE_BYTES = 2**25
SMALL = {
    "zero_optimization": {
        "reduce_bucket_size": 1_000_000,
        "stage3_max_live_parameters": 1_000_000,
        "stage3_prefetch_bucket_size": 0,
    }
}
"""Otherwise the whole of a small model would be gathered at once."""


def build(base: Path, stage: int) -> tuple[Trainable, TrainEngine]:
    workers = TrainWorkers(zero_stage=stage, deepspeed=SMALL if stage == 3 else {})  # pyright: ignore[reportArgumentType]
    zero3 = build_deepspeed_config(CONFIG, workers, torch.float32) if stage == 3 else None
    trainable = build_trainable(base, [TOKEN], CONFIG, torch.float32, zero3)
    return trainable, TrainEngine(trainable, CONFIG, workers, torch.float32)


def step(engine: TrainEngine, packed: Pack) -> float:
    return engine.step([packed], SUPERVISED).loss


def main() -> None:
    rank, world, port, stage = (int(sys.argv[place]) for place in (1, 2, 3, 6))
    base, out, checkpoint = Path(sys.argv[4]), Path(sys.argv[5]), sys.argv[7:]
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(rank),
    }
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    packed, said = pack(ROWS[rank::world]), dict[str, Any]()

    def run() -> None:
        trainable, engine = build(base, stage)
        if checkpoint:
            load_state(engine, Path(checkpoint[0]), packed)
        said["losses"] = [step(engine, packed) for _ in range(STEPS)]
        if not checkpoint:
            save_state(engine, out / "checkpoint", STEPS, file_bytes=FILE_BYTES)
            said["losses"] += [step(engine, packed) for _ in range(STEPS)]
        save_result(trainable, out / "trained")

    scratch = out / str(rank)
    scratch.mkdir()
    print(json.dumps({"peak": measure_peak(run, scratch), **said}), flush=True)


if __name__ == "__main__":
    main()
