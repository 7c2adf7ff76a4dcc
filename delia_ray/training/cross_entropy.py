"""Cross-entropy in float32 of logits in the model's precision, without ever holding all of them in float32.

A vocabulary of 50,000 makes the logits the largest tensor of a step. torch's own sum keeps them twice in float32 for the backward
pass and makes two more there; here that is done for a few tokens at a time, and what is kept is the logits as they came.

Legend: S learnt tokens of a pack, V vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

_ON_CPU, _ON_GPU = 2**19, 2**26
"""Logits at once: what a core's cache holds; enough to keep a GPU busy, in a quarter of a GiB."""


def token_costs(logits_SV: Tensor, targets_S: Tensor) -> Tensor:
    """[S] costs in nats, float32; the gradient has the precision of ``logits_SV``."""
    return _Costs.apply(logits_SV, targets_S)


class _Costs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_SV: Tensor, targets_S: Tensor) -> Tensor:
        ctx.save_for_backward(logits_SV, targets_S)
        return torch.cat([cross_entropy(logits.float(), targets, reduction="none") for logits, targets in _parts(logits_SV, targets_S)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  wrapped
        """The softmax less one at the target, times what the token's cost counts."""
        logits_SV, targets_S = ctx.saved_tensors
        gradient_SV = torch.empty_like(logits_SV)
        for logits, targets, weights, gradient in _parts(logits_SV, targets_S, *grad_outputs, gradient_SV):
            shares = torch.softmax(logits.float(), -1, out=gradient if gradient.dtype == torch.float32 else None)
            shares[torch.arange(len(targets), device=targets.device), targets] -= 1
            gradient.copy_(shares.mul_(weights[:, None]))  # in float32 they are one tensor, and nothing is copied
        return gradient_SV, None


def _parts(logits_SV: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same few tokens of each."""
    tokens = max(1, (_ON_CPU if logits_SV.device.type == "cpu" else _ON_GPU) // logits_SV.shape[1])
    return zip(*(tensor.split(tokens) for tensor in (logits_SV, *others)), strict=True)
