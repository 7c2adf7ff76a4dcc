"""Which code computes what is not a matrix product (``placement.finetune.kernels``); none of it changes what is learnt."""

import os
import shutil
from typing import Any, Literal

import torch

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
            _compile_norms(model)
        case "liger":
            _use_liger(model)


def _compile_norms(model: Any) -> None:
    """One pass over memory, where the transformers code makes seven forward and more backward.

    Nothing larger is compiled: whole layers took many times as long to compile and were hardly faster (docs/training.md).
    """
    compiler = os.environ.get("CXX", "g++")
    if not torch.cuda.is_available() and shutil.which(compiler) is None:
        raise UserError(f"placement.finetune.kernels: compiled needs a C++ compiler on the workers, and there is no {compiler}; use plain")
    for layer in model.modules():
        if type(layer).__name__.endswith("RMSNorm"):
            layer.compile(dynamic=True)


def _use_liger(model: Any) -> None:
    try:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance  # noqa: PLC0415  # pyright: ignore
    except ImportError:
        raise UserError(
            "placement.finetune.kernels: liger needs `pip install liger-kernel` on the workers; install it, or use plain"
        ) from None
    _apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
