"""The trainable model and its loss on tensors without data, as a worker has them: built from ``config.json`` alone."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from delia_ray.placement import TrainWorkers
from delia_ray.training.config import FinetuneConfig, Full, Lora
from delia_ray.training.kernels.attention_registration import set_packed_attention
from delia_ray.training.kernels.cross_entropy import CPU_CHUNK, GPU_CHUNK, token_losses
from delia_ray.training.kernels.packed_attention import PackedRows, attend_by_library, build_varlen_metadata
from delia_ray.training.kernels.select import resolve_kernels, use_kernels
from delia_ray.training.lora import attach_lora
from delia_ray.training.model import Trainable
from delia_ray.training.new_token_embeddings import NewTokenEmbeddings
from delia_ray.training.objective import TokenLoss
from delia_ray.upstream.torch_internals import FakeTensorMode

_CHUNKS = 64
"""Chunks of a chunked loss at most. More of them, as CPUs have, save no memory worth counting, and each takes time."""


def build_loss(
    folder: Path, new_tokens: int, config: FinetuneConfig, workers: TrainWorkers, dtype: torch.dtype, mode: FakeTensorMode
) -> TokenLoss:
    """Build what ``worker.py`` trains, with the kernels of ``workers``, on tensors of ``mode``, which say that they are on a CPU.

    Norms and gates are torch's, whatever ``kernels.layers`` says. The rows by which new tokens enlarge the vocabulary are not counted.

    Args:
        folder: the model's ``config.json``.

    Raises:
        UserError: the adapter names layers that the model does not have.
    """
    kernels = resolve_kernels(workers).model_copy(update={"layers": "torch"})
    model = _build_on_meta(folder, config, dtype)
    with mode:
        model.to_empty(device="cpu")
        model.tie_weights()
        trainable = Trainable(model, _add_new_tokens(model, new_tokens), "adapter" if isinstance(config.parameters, Lora) else "full")
        if workers.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        use_kernels(model, kernels)
        loss = TokenLoss(trainable, config.objective, kernels)
        if workers.num_gpus:
            _compute_as_on_gpu(loss, dtype)
        if kernels.loss == "chunked":
            loss.compute_losses = partial(_chunked_losses, GPU_CHUNK if workers.num_gpus else CPU_CHUNK)
    model.train()
    return loss


def _build_on_meta(folder: Path, config: FinetuneConfig, dtype: torch.dtype) -> Any:
    """Build the model with its adapter, and say which parameters are trained."""
    parameters = config.parameters
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, trust_remote_code=False), dtype=dtype)
        if not isinstance(parameters, Lora):
            return model.requires_grad_(isinstance(parameters, Full))
        model = attach_lora(model, folder, parameters)
    for weight in model.parameters():  # PEFT gives an adapter the precision of its layer only where that has data
        weight.data = weight.data.to(dtype)
    return model


def _add_new_tokens(model: Any, new_tokens: int) -> NewTokenEmbeddings | None:
    return NewTokenEmbeddings(model, range(new_tokens)) if new_tokens else None


def _compute_as_on_gpu(loss: TokenLoss, dtype: torch.dtype) -> None:
    """Use the operations that torch chooses on a GPU, where they keep less than those on a CPU."""
    if dtype != torch.float32:
        set_packed_attention(loss.model, loss.packing_mode, attend_with_varlen)
    dropouts: list[Any] = [layer for layer in loss.modules() if isinstance(layer, nn.Dropout)]
    for layer in dropouts:
        layer.forward = partial(_drop_with_mask, layer)


def attend_with_varlen(
    query_1HTD: Tensor, key_1KTD: Tensor, value_1KTD: Tensor, rows: PackedRows, scaling: float | None, window: int | None
) -> Tensor:
    """[1, T, H, D] attention output as on a GPU, by torch's variable-length kernel, on tensors without data."""
    divided = PackedRows(rows.row_lengths, rows.prefix_length, build_varlen_metadata(rows, query_1HTD.device))
    return attend_by_library(query_1HTD, key_1KTD, value_1KTD, divided, scaling, window)


def _drop_with_mask(layer: nn.Dropout, states: Tensor) -> Tensor:
    """Dropout that keeps a mask of a byte an element, as on a GPU; a CPU keeps the factors."""
    return torch.native_dropout(states, layer.p, layer.training)[0] if layer.p else states


def _chunked_losses(chunk: int, logits_SV: Tensor, targets_S: Tensor) -> Tensor:
    return token_losses(logits_SV, targets_S, max(chunk, logits_SV.numel() // _CHUNKS))
