"""The state of a training run on disk: trained weights, AdamW's moments and the learning rate schedule, independent of the sharding.

Each tensor is gathered whole and written by one worker to safetensors, so loading unpickles nothing, and a run can resume with another
number of workers or ZeRO stage. At stage 3 a worker reads its part of all but small ones. Dropout and noise are seeded by step, so no
random generator state is saved.
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
from delia_ray.core.storage.paths import to_uri
from delia_ray.training.checkpoint.agreement import failing_together
from delia_ray.training.data.packing import Pack
from delia_ray.training.engine import TrainEngine
from delia_ray.upstream.deepspeed_zero import (
    find_master,
    find_partition,
    gather,
    get_numel,
    get_shape,
    has_zero_state,
    is_kept_whole,
    link_moments,
    set_partition,
)

_STATE = "state.json"
_WEIGHT = "weight"
_MOMENTS = ("exp_avg", "exp_avg_sq")
_KEYS = (_WEIGHT, *_MOMENTS)
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
    for number, tensors in enumerate(files):
        copies = _gather_on(number % world, engine, tensors)
        if number % world == rank:
            file = folder / _name_file(number, len(files))
            save_file(copies, file)
            handle(file)
        del copies
    if rank == 0:
        state = {"step": step, "shards": len(files), "schedule": _get_schedule_state(engine)}
        (folder / _STATE).write_text(json.dumps(state) + "\n")
        handle(folder / _STATE)


def _divide_into_files(engine: TrainEngine, world: int, file_bytes: int) -> list[list[tuple[str, str]]]:
    """Divide weights and moments, by (name of the parameter, key), into files of about the same size, one for each worker or more."""
    sizes = {(name, key): _FLOAT32_BYTES * get_numel(parameter) for name, parameter in engine.trained_parameters.items() for key in _KEYS}
    largest = min(file_bytes, -(-sum(sizes.values()) // world))
    files: list[list[tuple[str, str]]] = [[]]
    filled = 0
    for tensor, size in sizes.items():
        if files[-1] and filled + size > largest:
            files.append([])
            filled = 0
        files[-1].append(tensor)
        filled += size
    return files


def _gather_on(rank: int, engine: TrainEngine, tensors: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """Gather weights and moments one after another, and copy them to the memory of the worker ``rank`` alone."""
    copies: dict[str, Tensor] = {}
    for name, key in tensors:
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
    with ExitStack() as files:
        with failing_together():  # each worker reads its own node's copy
            state = _read_state(folder)
            tensors = _open_files(engine, folder, state["shards"], files)
        engine.initialize_optimizer(dummy_pack)
        link_moments(engine.deepspeed_optimizer, engine.optimizer.state)
        for name, parameter in engine.trained_parameters.items():
            _set(engine, parameter, lambda key, part, name=name: _read(tensors[f"{name}/{key}"], f"{name}/{key}", part).to(engine.device))
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
        for key in _KEYS:
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
    return f"remove {to_uri(folder)} to go on from the checkpoint before it, or from the start if there is none"


def _gather_full(engine: TrainEngine, parameter: nn.Parameter, key: str) -> Tensor:
    if has_zero_state(parameter):
        full = safe_get_full_fp32_param(parameter) if key == _WEIGHT else safe_get_full_optimizer_state(parameter, key)
        assert full is not None, "the parameter is trained, and its moments are linked"
        return full
    master = find_master(engine.deepspeed_optimizer, parameter)
    return master if key == _WEIGHT else engine.optimizer.state[master][key]


def _set(engine: TrainEngine, parameter: nn.Parameter, read: Callable[[str, slice | None], Tensor]) -> None:
    """Set weight and moments: this worker's partition of them, where there is one, or else the whole."""
    part = find_partition(parameter)
    if part is not None:
        if is_kept_whole(parameter):
            _copy_whole(parameter, read(_WEIGHT, None))
        set_partition(parameter, read(_WEIGHT, part), {key: read(key, part) for key in _MOMENTS})
        return
    values = {key: read(key, None) for key in _KEYS}
    _copy_whole(parameter, values[_WEIGHT])
    if has_zero_state(parameter):
        safe_set_full_fp32_param(parameter, values[_WEIGHT])
        for key in _MOMENTS:
            safe_set_full_optimizer_state(parameter, values[key], key)
        return
    master = find_master(engine.deepspeed_optimizer, parameter)
    with torch.no_grad():
        master.copy_(values[_WEIGHT])
    for key in _MOMENTS:
        engine.optimizer.state[master][key].copy_(values[key])


def _copy_whole(parameter: nn.Parameter, value: Tensor) -> None:
    with gather([parameter], modifier_rank=0), torch.no_grad():
        parameter.copy_(value.to(parameter.dtype))
