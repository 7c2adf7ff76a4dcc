"""A run in flight on disk: weights, AdamW's moments and the schedule, whole, so that any number of workers can go on from it.

Each tensor is gathered and written by one worker, into safetensors: nothing is unpickled when it is read back, and neither the
number of workers nor the ZeRO stage needs to be the one that wrote it. Dropout and noise are seeded by step, so a random
generator has no state to keep.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import (
    lazy_init_hp_params_optimizer_state,
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from delia_ray.errors import UserError
from delia_ray.training.engine import TrainEngine
from delia_ray.training.packing import Pack

_STATE = "state.json"
_WEIGHT = "weight"
_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_state(engine: TrainEngine, folder: Path, step: int) -> None:
    """Write what is needed to go on after ``step`` steps. All workers call it, with the same folder."""
    rank, world = dist.get_rank(), dist.get_world_size()
    _link(engine)
    own: dict[str, Tensor] = {}
    for place, (name, parameter) in enumerate(engine.named.items()):
        whole = {key: _get(engine, parameter, key) for key in (_WEIGHT, *_MOMENTS)}
        if place % world == rank:
            own |= {f"{name}/{key}": value.detach().float().cpu().contiguous().clone() for key, value in whole.items()}
    save_file(own, folder / f"tensors-{rank:05d}-of-{world:05d}.safetensors")
    if rank == 0:
        state = {"step": step, "shards": world, "schedule": _schedule(engine)}
        (folder / _STATE).write_text(json.dumps(state) + "\n")


def load_state(engine: TrainEngine, folder: Path, filler: Pack) -> int:
    """Restore what ``save_state`` wrote and return its step.

    Args:
        filler: any pack; the optimiser makes its state in a step that moves nothing.

    Raises:
        UserError: the checkpoint is cut short, or is of other parameters.
    """
    state = _read_state(folder)
    tensors = _read_tensors(engine, folder, state["shards"])
    engine.step_in_place(filler)
    _link(engine)
    for name, parameter in engine.named.items():
        _set(engine, parameter, {key: tensors[f"{name}/{key}"] for key in (_WEIGHT, *_MOMENTS)})
    for moments in engine.optimizer.state.values():
        moments["step"].fill_(state["step"])
    engine.schedule.load_state_dict(state["schedule"])
    for group, rate in zip(engine.schedule.optimizer.param_groups, engine.schedule.get_last_lr(), strict=True):
        group["lr"] = rate
    return int(state["step"])


def _schedule(engine: TrainEngine) -> dict[str, Any]:
    return {key: value for key, value in engine.schedule.state_dict().items() if key != "lr_lambdas"} | {
        "lr_lambdas": [None] * len(engine.schedule.lr_lambdas)
    }


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / _STATE).read_text())
    except (OSError, ValueError):
        raise UserError(f"checkpoint {folder}: {_STATE} is missing or cut short; {_way_out(folder)}") from None


def _read_tensors(engine: TrainEngine, folder: Path, shards: int) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for shard in range(shards):
        file = folder / f"tensors-{shard:05d}-of-{shards:05d}.safetensors"
        try:
            with safe_open(file, framework="pt") as opened:
                tensors |= {name: opened.get_tensor(name) for name in opened.keys()}
        except (OSError, SafetensorError) as error:
            raise UserError(f"checkpoint {file}: missing or cut short ({error}); {_way_out(folder)}") from None
    for name, parameter in engine.named.items():
        shape = tuple(getattr(parameter, "ds_shape", parameter.shape))
        for key in (_WEIGHT, *_MOMENTS):
            found = tensors.get(f"{name}/{key}")
            if found is None or tuple(found.shape) != shape:
                kept = "nothing" if found is None else f"shape {tuple(found.shape)}"
                raise UserError(f"checkpoint {folder}: {key} of {name} has {kept}, and {shape} is wanted; {_way_out(folder)}")
    return tensors


def _way_out(folder: Path) -> str:
    return f"remove {folder} to go on from the checkpoint before it, or from the start if there is none"


def _link(engine: TrainEngine) -> None:
    """Show DeepSpeed where the moments of every parameter group are.

    It does so itself after its first step, but on stages 1 and 2 before any group but the first has moments (0.19.8).
    """
    zero = engine.wrapped
    for group, partition in zip(getattr(zero, "bit16_groups", ()), getattr(zero, "single_partition_of_fp32_groups", ()), strict=True):
        lazy_init_hp_params_optimizer_state(group, partition, engine.optimizer.state)


def _get(engine: TrainEngine, parameter: nn.Parameter, key: str) -> Tensor:
    whole = safe_get_full_fp32_param(parameter) if key == _WEIGHT else safe_get_full_optimizer_state(parameter, key)
    if whole is None:  # no ZeRO: AdamW holds the parameter itself
        whole = parameter if key == _WEIGHT else engine.optimizer.state[parameter][key]
    return whole


def _set(engine: TrainEngine, parameter: nn.Parameter, values: dict[str, Tensor]) -> None:
    on_device = {key: value.to(engine.device) for key, value in values.items()}
    plain = safe_get_full_fp32_param(parameter) is None
    with engine.gathered([parameter], modifier_rank=0), torch.no_grad():
        parameter.copy_(on_device[_WEIGHT].to(parameter.dtype))
    if plain:
        for key in _MOMENTS:
            engine.optimizer.state[parameter][key].copy_(on_device[key])
        return
    safe_set_full_fp32_param(parameter, on_device[_WEIGHT])
    for key in _MOMENTS:
        safe_set_full_optimizer_state(parameter, on_device[key], key)
