"""Fused LoRA: the forward and backward pass of a plain LoRA layer with fewer passes over memory than PEFT's.

Legend: T tokens, I input features, O output features, R rank.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from delia_ray.upstream.deepspeed_zero import is_partitioned
from delia_ray.upstream.peft_lora import call_original, list_plain_layers, read_parts, replace_forward


def fuse_lora(model: nn.Module) -> None:
    """Replace the forward of every plain LoRA layer of ``model`` by one that adds the low-rank product in place to the base layer's.

    PEFT computes ``base(x) + B(A(x)) * scale`` step by step: three more passes over [T, O] forward, and one more over [T, O] and over
    [T, I] each backward. Layers with DoRA, a quantized base, or several adapters keep PEFT's forward.
    """
    for layer in list_plain_layers(model):
        replace_forward(layer, _forward_fused)


def _forward_fused(layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """[..., O] outputs of a LoRA layer, in the base layer's precision (its ``forward``)."""
    parts = None if args or kwargs else read_parts(layer)
    if parts is None:
        return call_original(layer, x, *args, **kwargs)
    base, down, up, dropout, scale = parts
    if _is_fusible(x, base, down, dropout):
        output_TO: Any = _FusedLora.apply(x, base.weight, base.bias, down.weight, up.weight, scale)
        return output_TO.view(*x.shape[:-1], -1)  # outside, since a model may not change in place a view made by a custom function
    inner = down(dropout(x.to(down.weight.dtype)))
    # No other code holds the base layer's output, and its backward needs only its input, so the sum may overwrite it.
    return base(x).add_(up(inner * scale))


def _is_fusible(x: Tensor, base: nn.Linear, down: nn.Linear, dropout: nn.Module) -> bool:
    """Whether both products have the same input and precision, and whole weights, which ZeRO-3 gathers only while their modules run."""
    return isinstance(dropout, nn.Identity) and x.dtype == base.weight.dtype == down.weight.dtype and not is_partitioned(base.weight)


class _FusedLora(torch.autograd.Function):
    """[T, O] ``x W^T + bias + scale x A^T B^T`` for a frozen W; forward and backward run matrix products and no other pass over memory."""

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
