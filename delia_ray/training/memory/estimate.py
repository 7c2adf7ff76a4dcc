"""The estimate of a training worker's peak memory, and what it is the sum of."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from delia_ray.placement import TrainWorkers
from delia_ray.training.config import FinetuneConfig, Lora
from delia_ray.training.kernels.packed_attention import MissingRowLengthsError
from delia_ray.training.memory.live_bytes import LiveBytes, Use
from delia_ray.training.memory.micro_batch import GradientHandling, MicroBatch, measure_pass
from delia_ray.training.memory.states import States
from delia_ray.training.memory.weightless import build_loss
from delia_ray.training.objective import TokenLoss

logger = logging.getLogger(__name__)

_ROW_ATTENTION = "sdpa"
"""Attention of a single row, transformers' default."""
_FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError)
"""Exceptions that the code of an architecture raises on tensors without data, where it asks for their values."""
_BYTES_IN_4_BIT = 0.5 + 1 / 64 + 4 / (64 * 256)
"""NF4 in blocks of 64, with a byte of scale for each, and those scales in blocks of 256."""


_NAMES: dict[Use, str] = {
    "gradients": "gradients",
    "bucket": "bucket in which they are reduced",
    "layers": "activations",
    "logits": "logits and loss",
}


@dataclass(frozen=True)
class Part:
    """A part of a worker's memory at its peak."""

    name: str
    size: int
    """Bytes."""
    is_offloaded: bool = False
    """Whether ``placement.finetune.offload`` keeps it off the GPU."""


@dataclass(frozen=True)
class TrainingMemory:
    """A training worker's memory at its peak."""

    parts: tuple[Part, ...]
    batch: MicroBatch
    """The micro-batch that it is about."""
    is_whole: bool
    """Whether activations are counted; some architectures compute what depends on data, and their activations cannot be."""

    @property
    def total(self) -> int:
        """Bytes on the worker's device."""
        return sum(part.size for part in self.parts if not part.is_offloaded)


def estimate_training(
    folder: Path, new_tokens: int, config: FinetuneConfig, workers: TrainWorkers, dtype: torch.dtype, batch: MicroBatch, *, is_only: bool
) -> TrainingMemory:
    """Estimate the peak memory of one training worker: in a pass over a micro-batch, or in the optimizer's step.

    torch's tensors are counted; not the CUDA context, the libraries, or what the allocator holds in reserve.

    Args:
        folder: the model's ``config.json``; weights are not read.
        new_tokens: number of new tokens.
        dtype: the precision of the run.
        batch: the micro-batch that takes most memory.
        is_only: whether it is the only one of its step; otherwise the gradients of others are there.

    Raises:
        UserError: the adapter names layers that the model does not have.
    """
    live = LiveBytes()
    loss = build_loss(folder, new_tokens, config, workers, dtype, live.mode)
    trained = [weight for weight in loss.parameters() if weight.requires_grad]
    states = States(_count_weight_bytes(loss, config), sum(weight.numel() for weight in trained), dtype.itemsize, workers)
    try:
        peak = _measure(loss, batch, states.handle_gradients(not is_only), live)
    except _FAILURES as error:
        logger.info("activations cannot be counted for %s: %s", folder, error)
        peak = None
    offloaded = states.is_offloaded
    fixed = [
        Part("weights", states.weights, offloaded and workers.zero_stage == 3),
        Part("weights gathered from other workers", states.gathered),
        Part("float32 copy of what is trained", states.copy, offloaded),
        Part("AdamW's moments", states.moments, offloaded),
        Part("buffers of gradients", states.buffers),
    ]
    in_step = [Part("gradients and their copies, in the optimizer's step", states.step)]
    in_pass = [] if peak is None else [Part(name, peak.get(use, 0)) for use, name in _NAMES.items()]
    if peak is not None and not workers.num_gpus and dtype != torch.float32:
        in_pass.append(Part("operands that oneDNN reorders", _count_head_operands(loss, batch, dtype)))
    parts = [*fixed, *max(in_pass, in_step, key=_sum)]
    return TrainingMemory(tuple(part for part in parts if part.size), batch, peak is not None)


def _measure(loss: TokenLoss, batch: MicroBatch, gradients: GradientHandling, live: LiveBytes) -> Mapping[Use, int]:
    """Measure a pass, of one row where the model turns out not to tell its attention where rows begin."""
    try:
        return measure_pass(loss, batch, gradients, live)
    except MissingRowLengthsError:
        loss.model.set_attn_implementation(_ROW_ATTENTION)
        loss.packing_mode = "single"
        return measure_pass(loss, batch, gradients, live)


def _sum(parts: Sequence[Part]) -> int:
    return sum(part.size for part in parts)


def _count_weight_bytes(loss: TokenLoss, config: FinetuneConfig) -> int:
    """Count the weights as they are stored, each once; with 4-bit weights those of the linear layers in 4 bits."""
    weights: dict[int, int] = {id(weight): weight.numel() * weight.itemsize for weight in (*loss.parameters(), *loss.buffers())}
    if isinstance(config.parameters, Lora) and config.parameters.load_in_4bit:
        head: Any = loss.model.get_output_embeddings()
        layers = (layer for layer in loss.model.modules() if isinstance(layer, nn.Linear) and layer is not head)
        frozen = (layer.weight for layer in layers if not layer.weight.requires_grad)
        weights |= {id(weight): int(weight.numel() * _BYTES_IN_4_BIT) for weight in frozen}
    return sum(weights.values())


def _count_head_operands(loss: TokenLoss, batch: MicroBatch, dtype: torch.dtype) -> int:
    """Count what oneDNN copies for the output head's backward pass in half precision on a CPU: logits and weights, in another layout."""
    head = loss.model.get_output_embeddings().weight
    return dtype.itemsize * (round(batch.tokens * batch.supervised) * head.shape[0] + head.numel())
