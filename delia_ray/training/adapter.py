"""LoRA's sum with fewer passes over memory than PEFT's own, for layers that do nothing else.

Legend: T tokens, I inputs, O outputs, R rank.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear


def fuse_sums(model: nn.Module) -> None:
    """Let every plain LoRA layer of ``model`` add its low-rank product to the base layer's within that product.

    PEFT computes ``base(x) + B(A(x)) * scale`` one by one: three more passes over [T, O] forward, and one more each over that
    and over [T, I] backward. Layers with DoRA, a quantised base, or several adapters keep PEFT's forward.
    """
    from peft.tuners.lora import Linear  # noqa: PLC0415  seconds to import

    for layer in model.modules():
        if type(layer) is Linear and not layer.lora_variant and type(layer.base_layer) is nn.Linear:
            layer.forward = MethodType(_forward, layer)  # pyright: ignore[reportAttributeAccessIssue]


def _forward(layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """[..., O] outputs, in the base layer's precision."""
    if layer.disable_adapters or layer.merged or args or kwargs or len(layer.active_adapters) != 1:
        return type(layer).forward(layer, x, *args, **kwargs)
    name, base = layer.active_adapters[0], layer.base_layer
    down, up, dropout = layer.lora_A[name], layer.lora_B[name], layer.lora_dropout[name]
    if _is_plain(x, base, down, dropout):
        summed_TO = _LowRankSum.apply(x, base.weight, base.bias, down.weight, up.weight, layer.scaling[name])
        return summed_TO.view(*x.shape[:-1], -1)  # out here, since what a function views may not be changed in place by a model
    inner = down(dropout(x.to(down.weight.dtype)))
    # The base layer's product is its own, and its backward needs only its input, so the sum may overwrite it.
    return base(x).add_(up(inner * layer.scaling[name]))


def _is_plain(x: Tensor, base: nn.Linear, down: nn.Linear, dropout: nn.Module) -> bool:
    """Whether both products have one input, one precision, and whole weights, which ZeRO-3 gathers only as their modules run."""
    return isinstance(dropout, nn.Identity) and x.dtype == base.weight.dtype == down.weight.dtype and not hasattr(base.weight, "ds_id")


class _LowRankSum(torch.autograd.Function):
    """[T, O] ``x W^T + bias + scale x A^T B^T`` for a frozen W, its gradient in as many products and no pass besides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None, down_RI: Tensor, up_OR: Tensor, scale: float) -> Tensor:
        x_TI = x.reshape(-1, x.shape[-1])
        inner_TR = (x_TI @ down_RI.T).mul_(scale)
        ctx.save_for_backward(x_TI, weight_OI, down_RI, up_OR, inner_TR)
        ctx.scale, ctx.shape = scale, x.shape
        return linear(x_TI, weight_OI, bias_O).addmm_(inner_TR, up_OR.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x_TI, weight_OI, down_RI, up_OR, inner_TR = ctx.saved_tensors
        grad_TO = grad_outputs[0].reshape(-1, len(weight_OI))
        inner_grad_TR = (grad_TO @ up_OR).mul_(ctx.scale)
        x_grad = (grad_TO @ weight_OI).addmm_(inner_grad_TR, down_RI).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return x_grad, None, None, inner_grad_TR.T @ x_TI, grad_TO.T @ inner_TR, None
