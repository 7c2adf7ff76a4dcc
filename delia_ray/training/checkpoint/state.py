"""The state of a training run on disk: trained weights, AdamW's moments and the learning rate schedule, independent of the sharding.

Each tensor is gathered whole and written by one worker to safetensors, so loading unpickles nothing, and a run can resume with another
number of workers or ZeRO stage. At stage 3 a worker reads only its part of each. Dropout and noise are seeded by step, so no random
generator state is saved.
"""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
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
from delia_ray.upstream.deepspeed_zero import find_master, find_part, gather, get_numel, get_shape, link_moments, set_part

_STATE = "state.json"
_WEIGHT = "weight"
_MOMENTS = ("exp_avg", "exp_avg_sq")
_FLOAT32_BYTES = 4
_FILE_BYTES = 2 * 10**9


def save_state(
    engine: TrainEngine, folder: Path, step: int, handle: Callable[[Path], object] = lambda file: None, file_bytes: int = _FILE_BYTES
) -> None:
    """Write the training state after ``step`` steps to ``folder``. All workers call it, with the same folder, and write some files each.

    Args:
        handle: called with each of this worker's files when it is written.
        file_bytes: largest size of a file, and what a worker holds in memory to write one, unless a tensor is larger.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    link_moments(engine.deepspeed_optimizer, engine.optimizer.state)
    files = _divide_into_files(engine, world, file_bytes)
    for number, names in enumerate(files):
        tensors = _gather_on(number % world, engine, names)
        if number % world == rank:
            file = folder / _name_file(number, len(files))
            save_file(tensors, file)
            handle(file)
            del tensors
    if rank == 0:
        state = {"step": step, "shards": len(files), "schedule": _get_schedule_state(engine)}
        (folder / _STATE).write_text(json.dumps(state) + "\n")
        handle(folder / _STATE)


def _divide_into_files(engine: TrainEngine, world: int, file_bytes: int) -> list[list[str]]:
    """Divide the names of trained parameters into files, at least one for each worker if there are as many, of about the same size."""
    sizes = {name: _FLOAT32_BYTES * (1 + len(_MOMENTS)) * get_numel(parameter) for name, parameter in engine.trained_parameters.items()}
    largest = min(file_bytes, -(-sum(sizes.values()) // world))
    files: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if files[-1] and filled + size > largest:
            files.append([])
            filled = 0
        files[-1].append(name)
        filled += size
    return files


def _gather_on(rank: int, engine: TrainEngine, names: Sequence[str]) -> dict[str, Tensor]:
    """Gather weights and moments one after another, and copy them to the memory of the worker ``rank`` alone."""
    copies: dict[str, Tensor] = {}
    for name in names:
        for key in (_WEIGHT, *_MOMENTS):
            value = _gather_full(engine, engine.trained_parameters[name], key)
            if rank == dist.get_rank():
                copies[f"{name}/{key}"] = value.detach().float().cpu().contiguous().clone()
    return copies


def _name_file(number: int, files: int) -> str:
    return f"tensors-{number:05d}-of-{files:05d}.safetensors"


def load_state(engine: TrainEngine, folder: Path, dummy_pack: Pack) -> int:
    """Load what ``save_state`` wrote to ``folder`` into ``engine`` and return its number of finished steps.

    Args:
        dummy_pack: any pack; the optimizer creates its state in a step on it that changes no weight.

    Raises:
        UserError: the checkpoint is truncated, or holds other parameters.
    """
    state = _read_state(folder)
    with ExitStack() as files:
        tensors = _open_files(engine, folder, state["shards"], files)
        engine.initialize_optimizer(dummy_pack)
        link_moments(engine.deepspeed_optimizer, engine.optimizer.state)
        for name, parameter in engine.trained_parameters.items():
            part = find_part(parameter)
            values = {key: _read(tensors[f"{name}/{key}"], f"{name}/{key}", part).to(engine.device) for key in (_WEIGHT, *_MOMENTS)}
            if part is None:
                _set_full(engine, parameter, values)
            else:
                set_part(parameter, values.pop(_WEIGHT), values)
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


def _open_files(engine: TrainEngine, folder: Path, shards: int, files: ExitStack) -> dict[str, Any]:
    """Open the checkpoint's files and check that they hold what is trained; return the file of each tensor by its name."""
    found: dict[str, Any] = {}
    for shard in range(shards):
        path = folder / _name_file(shard, shards)
        try:
            file = files.enter_context(safe_open(path, framework="pt"))
        except (OSError, SafetensorError) as error:
            raise UserError(f"checkpoint {path}: missing or cut short ({error}); {_suggest_fix(folder)}") from None
        found |= dict.fromkeys(file.keys(), file)
    for name, parameter in engine.trained_parameters.items():
        shape = get_shape(parameter)
        for key in (_WEIGHT, *_MOMENTS):
            file = found.get(f"{name}/{key}")
            saved = None if file is None else tuple(file.get_slice(f"{name}/{key}").get_shape())
            if saved != shape:
                what = "is missing" if saved is None else f"has shape {saved}"
                raise UserError(f"checkpoint {folder}: {key} of {name} {what}, and {shape} is expected; {_suggest_fix(folder)}")
    return found


def _read(file: Any, name: str, part: slice | None) -> Tensor:
    """Read a tensor, or [P] the elements ``part`` of it when it is flattened: only the rows that hold them, and zeros after its end."""
    if part is None:
        return file.get_tensor(name)
    stored, size = file.get_slice(name), part.stop - part.start
    rows, *others = stored.get_shape()
    width = math.prod(others)
    if part.start >= rows * width:
        return torch.zeros(size)
    first, last = part.start // width, min(rows, -(-part.stop // width))
    read_S = stored[first:last].flatten()[part.start - first * width :][:size]
    return torch.nn.functional.pad(read_S, (0, size - len(read_S)))


def _suggest_fix(folder: Path) -> str:
    return f"remove {folder} to go on from the checkpoint before it, or from the start if there is none"


def _gather_full(engine: TrainEngine, parameter: nn.Parameter, key: str) -> Tensor:
    full = safe_get_full_fp32_param(parameter) if key == _WEIGHT else safe_get_full_optimizer_state(parameter, key)
    if full is None:  # no ZeRO
        master = find_master(engine.deepspeed_optimizer, parameter)
        full = master if key == _WEIGHT else engine.optimizer.state[master][key]
    return full


def _set_full(engine: TrainEngine, parameter: nn.Parameter, values: dict[str, Tensor]) -> None:
    unpartitioned = safe_get_full_fp32_param(parameter) is None
    with gather([parameter], modifier_rank=0), torch.no_grad():
        parameter.copy_(values[_WEIGHT].to(parameter.dtype))
    if unpartitioned:
        master = find_master(engine.deepspeed_optimizer, parameter)
        with torch.no_grad():
            master.copy_(values[_WEIGHT])
        for key in _MOMENTS:
            engine.optimizer.state[master][key].copy_(values[key])
        return
    safe_set_full_fp32_param(parameter, values[_WEIGHT])
    for key in _MOMENTS:
        safe_set_full_optimizer_state(parameter, values[key], key)
