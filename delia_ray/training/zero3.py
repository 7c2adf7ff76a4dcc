"""Models that ZeRO-3 partitions: loaded, tried and saved with no worker holding all of the weights."""

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor, nn

from delia_ray.upstream.deepspeed_zero import gather, get_shape, is_partitioned

_STAGE_3 = {"zero_optimization": {"stage": 3}}
_SHARD_BYTES = 5 * 10**9
"""Largest size of a file of weights, unless one is larger, and what a worker that writes it holds besides its part."""


@contextmanager
def partition_on_load(deepspeed_config: Mapping[str, Any]) -> Generator[None]:
    """Have transformers partition the models that the block loads, layer by layer (``deepspeed.zero.Init``).

    Args:
        deepspeed_config: of ZeRO stage 3.
    """
    from transformers.integrations.deepspeed import HfDeepSpeedConfig  # noqa: PLC0415  seconds to import

    config = HfDeepSpeedConfig(dict(deepspeed_config))  # transformers looks for it as long as it lives
    try:
        yield
    finally:
        del config


@contextmanager
def let_peft_gather(model: nn.Module) -> Generator[None]:
    """Have PEFT gather the weights of ``model`` that it reads in the block, if they are partitioned."""
    with partition_on_load(_STAGE_3) if any(map(is_partitioned, model.parameters())) else nullcontext():
        yield


@contextmanager
def gather_layer_by_layer(model: nn.Module) -> Generator[None]:
    """Let a partitioned model run before DeepSpeed's engine has it: each layer gathers its weights for its own forward pass.

    All workers run the same layers in the same order.
    """
    with ExitStack() as hooks:
        for layer in _list_layers(model):
            if partitioned := [weight for weight in layer.parameters() if is_partitioned(weight)]:
                hooks.enter_context(_gather_in_forward(layer, partitioned))
        yield


def _list_layers(module: nn.Module) -> Iterator[nn.Module]:
    """List the layers of all stacks, and what is outside of them by its smallest parts.

    A layer may read the weights of its parts without running these, as state space models do.
    """
    for part in module.children():
        if isinstance(module, nn.ModuleList) or not list(part.children()) or list(part.parameters(recurse=False)):
            yield part
        else:
            yield from _list_layers(part)


@contextmanager
def _gather_in_forward(layer: nn.Module, weights: list[nn.Parameter]) -> Generator[None]:
    running: list[ExitStack] = []

    def enter(*_: object) -> None:
        running.append(ExitStack())
        running[-1].enter_context(gather(weights))

    def leave(*_: object) -> None:
        running.pop().close()

    handles = (layer.register_forward_pre_hook(enter, prepend=True), layer.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def save_shards(model: Any, folder: Path, shard_bytes: int = _SHARD_BYTES) -> list[Path]:
    """Write a partitioned model as a Hugging Face folder, each worker its share of the files, and return this worker's files.

    Weights have the names that they have in memory; transformers loads these as it loads the ones it would have written.

    Args:
        model: not an adapted one.
        folder: the same on all workers, who call this together.
        shard_bytes: largest size of a file.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    folder.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = _list_weights(model)
    shapes = {name: torch.empty(get_shape(weight), dtype=weight.dtype, device="meta") for name, weight in weights.items()}
    shards = split_torch_state_dict_into_shards(shapes, max_shard_size=shard_bytes)
    written: list[Path] = []
    for number, (file, names) in enumerate(shards.filename_to_tensors.items()):
        tensors = _gather_on(number % world, {name: weights[name] for name in names})
        if number % world == rank:
            save_file(tensors, folder / file, metadata={"format": "pt"})
            written.append(folder / file)
    if rank != 0:
        return written
    for config in filter(None, (model.config, model.generation_config)):
        config.save_pretrained(folder)
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return [*written, *folder.glob("*.json")]


def _list_weights(model: Any) -> dict[str, Tensor]:
    """List parameters, tied ones once, and the buffers that are saved."""
    weights: dict[str, Tensor] = dict(model.named_parameters())
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - set(weights)
    return weights | {name: value for name, value in model.state_dict().items() if name not in weights and name not in tied}


def _gather_on(rank: int, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gather the weights one after another, and copy them to the memory of the worker ``rank`` alone."""
    copies: dict[str, Tensor] = {}
    for name, weight in weights.items():
        with gather([weight]):
            if rank == dist.get_rank():
                copies[name] = weight.detach().cpu().contiguous().clone()
    return copies
