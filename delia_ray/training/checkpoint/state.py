"""The state of a training run on disk: trained weights, AdamW's moments and the learning rate schedule, independent of the sharding.

Each tensor is gathered whole and written by one worker to safetensors, so loading unpickles nothing, and a run can resume with another
number of workers or ZeRO stage. Dropout and noise are seeded by step, so no random generator state is saved.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from delia_ray.core.errors import UserError
from delia_ray.training.data.packing import Pack
from delia_ray.training.engine import TrainEngine
from delia_ray.upstream.deepspeed_zero import find_master, get_shape, link_moments

_STATE = "state.json"
_WEIGHT = "weight"
_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_state(engine: TrainEngine, folder: Path, step: int) -> list[Path]:
    """Write the training state after ``step`` steps to ``folder``, and return this worker's files. All workers call it, with the same
    folder."""
    rank, world = dist.get_rank(), dist.get_world_size()
    link_moments(engine.deepspeed_optimizer, engine.optimizer.state)
    tensors: dict[str, Tensor] = {}
    for index, (name, parameter) in enumerate(engine.trained_parameters.items()):
        values = {key: _gather_full(engine, parameter, key) for key in (_WEIGHT, *_MOMENTS)}
        if index % world == rank:
            tensors |= {f"{name}/{key}": value.detach().float().cpu().contiguous().clone() for key, value in values.items()}
    file = folder / f"tensors-{rank:05d}-of-{world:05d}.safetensors"
    save_file(tensors, file)
    if rank != 0:
        return [file]
    state = {"step": step, "shards": world, "schedule": _get_schedule_state(engine)}
    (folder / _STATE).write_text(json.dumps(state) + "\n")
    return [file, folder / _STATE]


def load_state(engine: TrainEngine, folder: Path, dummy_pack: Pack) -> int:
    """Load what ``save_state`` wrote to ``folder`` into ``engine`` and return its number of finished steps.

    Args:
        dummy_pack: any pack; the optimizer creates its state in a step on it that changes no weight.

    Raises:
        UserError: the checkpoint is truncated, or holds other parameters.
    """
    state = _read_state(folder)
    tensors = _read_tensors(engine, folder, state["shards"])
    engine.initialize_optimizer(dummy_pack)
    link_moments(engine.deepspeed_optimizer, engine.optimizer.state)
    for name, parameter in engine.trained_parameters.items():
        _set_full(engine, parameter, {key: tensors[f"{name}/{key}"] for key in (_WEIGHT, *_MOMENTS)})
    for moments in engine.optimizer.state.values():
        moments["step"].fill_(state["step"])
    engine.lr_scheduler.load_state_dict(state["schedule"])
    for group, learning_rate in zip(engine.lr_scheduler.optimizer.param_groups, engine.lr_scheduler.get_last_lr(), strict=True):
        group["lr"] = learning_rate
    return int(state["step"])


def _get_schedule_state(engine: TrainEngine) -> dict[str, Any]:
    return {key: value for key, value in engine.lr_scheduler.state_dict().items() if key != "lr_lambdas"} | {
        "lr_lambdas": [None] * len(engine.lr_scheduler.lr_lambdas)
    }


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / _STATE).read_text())
    except (OSError, ValueError):
        raise UserError(f"checkpoint {folder}: {_STATE} is missing or cut short; {_suggest_fix(folder)}") from None


def _read_tensors(engine: TrainEngine, folder: Path, shards: int) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for shard in range(shards):
        file = folder / f"tensors-{shard:05d}-of-{shards:05d}.safetensors"
        try:
            with safe_open(file, framework="pt") as tensor_file:
                tensors |= {name: tensor_file.get_tensor(name) for name in tensor_file.keys()}
        except (OSError, SafetensorError) as error:
            raise UserError(f"checkpoint {file}: missing or cut short ({error}); {_suggest_fix(folder)}") from None
    for name, parameter in engine.trained_parameters.items():
        shape = get_shape(parameter)
        for key in (_WEIGHT, *_MOMENTS):
            tensor = tensors.get(f"{name}/{key}")
            if tensor is None or tuple(tensor.shape) != shape:
                saved = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
                raise UserError(f"checkpoint {folder}: {key} of {name} {saved}, and {shape} is expected; {_suggest_fix(folder)}")
    return tensors


def _suggest_fix(folder: Path) -> str:
    return f"remove {folder} to go on from the checkpoint before it, or from the start if there is none"


def _gather_full(engine: TrainEngine, parameter: nn.Parameter, key: str) -> Tensor:
    full = safe_get_full_fp32_param(parameter) if key == _WEIGHT else safe_get_full_optimizer_state(parameter, key)
    if full is None:  # no ZeRO
        master = find_master(engine.deepspeed_optimizer, parameter)
        full = master if key == _WEIGHT else engine.optimizer.state[master][key]
    return full


def _set_full(engine: TrainEngine, parameter: nn.Parameter, values: dict[str, Tensor]) -> None:
    on_device = {key: value.to(engine.device) for key, value in values.items()}
    unpartitioned = safe_get_full_fp32_param(parameter) is None
    with engine.gather_parameters([parameter], modifier_rank=0), torch.no_grad():
        parameter.copy_(on_device[_WEIGHT].to(parameter.dtype))
    if unpartitioned:
        master = find_master(engine.deepspeed_optimizer, parameter)
        with torch.no_grad():
            master.copy_(on_device[_WEIGHT])
        for key in _MOMENTS:
            engine.optimizer.state[master][key].copy_(on_device[key])
        return
    safe_set_full_fp32_param(parameter, on_device[_WEIGHT])
    for key in _MOMENTS:
        safe_set_full_optimizer_state(parameter, on_device[key], key)
