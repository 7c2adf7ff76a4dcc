"""Which code computes what is not a matrix product (``placement.finetune.kernels``); none of it changes what is learnt."""

import os
import shutil
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from delia_ray.errors import UserError


def use_kernels(model: Any, kernels: Literal["plain", "compiled", "liger"]) -> None:
    """Let ``model`` compute its norms, and with liger more, by fused kernels.

    Raises:
        UserError: liger-kernel is not installed here, or compiled norms on a CPU have no C++ compiler.
    """
    match kernels:
        case "plain":
            return
        case "compiled":
            _compile_passes(model)
        case "liger":
            _use_liger(model)


def _compile_passes(model: Any) -> None:
    """One pass over memory for a norm, where the transformers code makes seven forward and more backward; the same for gates.

    Nothing larger is compiled: whole layers took many times as long to compile and were hardly faster (docs/training_profile.md).
    """
    compiler = os.environ.get("CXX", "g++")
    if not torch.cuda.is_available() and shutil.which(compiler) is None:
        raise UserError(f"placement.finetune.kernels: compiled needs a C++ compiler on the workers, and there is no {compiler}; use plain")
    gates: dict[type[nn.Module], Any] = {}
    for layer in model.modules():
        if type(layer).__name__.endswith("RMSNorm"):
            layer.compile(dynamic=True)
        elif _is_gated(layer):
            layer.gate = gates.setdefault(type(layer.act_fn), _compiled_gate(layer.act_fn))
            layer.forward = MethodType(_gated, layer)


def _is_gated(layer: Any) -> bool:
    """Whether ``layer`` does what Llama's MLP does and nothing else: the code is the same, and its activation learns nothing."""
    from transformers.models.llama.modeling_llama import LlamaMLP  # noqa: PLC0415  seconds to import

    theirs, llamas = type(layer).forward.__code__, LlamaMLP.forward.__code__
    same = (theirs.co_code, theirs.co_names) == (llamas.co_code, llamas.co_names)
    return same and isinstance(layer.act_fn, nn.Module) and not list(layer.act_fn.parameters())


def _compiled_gate(activation: nn.Module) -> Any:
    return torch.compile(lambda gate, up: activation(gate) * up, dynamic=True)


def _gated(layer: Any, x: Tensor) -> Tensor:
    return layer.down_proj(layer.gate(layer.gate_proj(x), layer.up_proj(x)))


def _use_liger(model: Any) -> None:
    try:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance  # noqa: PLC0415  # pyright: ignore
    except ImportError:
        raise UserError(
            "placement.finetune.kernels: liger needs `pip install liger-kernel` on the workers; install it, or use plain"
        ) from None
    _apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
