"""Selection of the kernels that ``placement.finetune.kernels`` names; none of them changes what is learned."""

import os
import shutil
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from delia_ray.core.errors import UserError
from delia_ray.placement import Kernels, TrainWorkers
from delia_ray.upstream import liger
from delia_ray.upstream.transformers_models import is_llama_mlp

if TYPE_CHECKING:
    from delia_ray.training.kernels.packed_attention import AttendRows


def resolve_kernels(workers: TrainWorkers) -> Kernels:
    """Replace each ``auto`` by the choice for the device of ``workers``: the libraries' own code on GPUs, code for CPUs on CPUs.

    Raises:
        UserError: code for CPUs is asked for on a GPU.
    """
    kernels, on_cpu = workers.kernels, workers.num_gpus == 0
    if not on_cpu and kernels.attention == "cpu":
        raise UserError("placement.finetune.kernels.attention: cpu runs on CPUs, and placement.finetune.num_gpus is set; use auto or torch")
    defaults = {"attention": "cpu", "lora": "cpu", "loss": "chunked"} if on_cpu else {"attention": "torch", "lora": "peft", "loss": "torch"}
    return kernels.model_copy(update={name: choice for name, choice in defaults.items() if getattr(kernels, name) == "auto"})


def use_kernels(model: Any, kernels: Kernels) -> None:
    """Let ``model`` compute its adapters, norms and gates as ``kernels`` says, with ``auto`` resolved.

    Raises:
        UserError: liger-kernel is not installed, or there is no C++ compiler for compiled kernels on a CPU.
    """
    if kernels.lora == "cpu":
        from delia_ray.training.kernels.fused_lora import fuse_lora  # noqa: PLC0415  for CPUs only

        fuse_lora(model)
    match kernels.layers:
        case "torch":
            return
        case "compiled":
            _compile_norms_and_gates(model)
        case "liger":
            _apply_liger(model)


def load_loss(kernels: Kernels) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function ([S, V] logits, [S] targets) -> [S] losses in nats, float32."""
    if kernels.loss == "chunked":
        from delia_ray.training.kernels.cross_entropy import token_losses  # noqa: PLC0415  only where it is chosen

        return token_losses
    return _torch_losses


def load_attention(kernels: Kernels) -> "AttendRows":
    """Return the function that attends to packed rows."""
    if kernels.attention == "cpu":
        from delia_ray.training.kernels.cpu_attention import attend_in_batches  # noqa: PLC0415  for CPUs only

        return attend_in_batches
    from delia_ray.training.kernels.packed_attention import attend_by_library  # noqa: PLC0415  imports transformers

    return attend_by_library


def _torch_losses(logits_SV: Tensor, targets_S: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits_SV.float(), targets_S, reduction="none")


def _compile_norms_and_gates(model: Any) -> None:
    """Compile norms, into one pass over memory where transformers makes seven forward and more backward, and the gates of MLPs.

    Nothing larger is compiled: whole layers took many times longer to compile and were hardly faster (docs/training_profile.md).
    """
    compiler = os.environ.get("CXX", "g++")
    if not torch.cuda.is_available() and shutil.which(compiler) is None:
        raise UserError(
            f"placement.finetune.kernels.layers: compiled needs a C++ compiler on the workers, and there is no {compiler}; use torch"
        )
    gates: dict[type[nn.Module], Any] = {}
    for layer in model.modules():
        if type(layer).__name__.endswith("RMSNorm"):
            layer.compile(dynamic=True)
        elif is_llama_mlp(layer):
            layer.gate = gates.setdefault(type(layer.act_fn), _compile_gate(layer.act_fn))
            layer.forward = MethodType(_forward_gated_mlp, layer)


def _compile_gate(activation: nn.Module) -> Any:
    return torch.compile(lambda gate, up: activation(gate) * up, dynamic=True)


def _forward_gated_mlp(layer: Any, x: Tensor) -> Tensor:
    return layer.down_proj(layer.gate(layer.gate_proj(x), layer.up_proj(x)))


def _apply_liger(model: Any) -> None:
    try:
        liger.apply_kernels(model)
    except ImportError:
        raise UserError(
            "placement.finetune.kernels.layers: liger needs `pip install liger-kernel` on the workers; install it, or use torch"
        ) from None
