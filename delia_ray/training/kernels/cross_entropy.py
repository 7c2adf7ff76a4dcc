"""Chunked cross-entropy in float32 from logits in the model's precision, without a float32 copy of all logits.

With a vocabulary of 50,000 the logits are the largest tensor of a step. torch's own cross-entropy keeps two float32 copies of them for the
backward pass and makes two more there; this one converts a few tokens at a time and keeps only the original logits.

Legend: S supervised tokens of a pack, V vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

CPU_CHUNK, GPU_CHUNK = 2**19, 2**26
"""Logits per chunk: as many as a core's cache holds; enough to keep a GPU busy, in a quarter of a GiB."""


def token_losses(logits_SV: Tensor, targets_S: Tensor, chunk: int | None = None) -> Tensor:
    """[S] cross-entropy in nats, float32; the gradient has the precision of ``logits_SV``.

    Args:
        chunk: logits to convert at a time; None: as many as suit the device.
    """
    return _TokenLosses.apply(logits_SV, targets_S, chunk or (CPU_CHUNK if logits_SV.device.type == "cpu" else GPU_CHUNK))


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_SV: Tensor, targets_S: Tensor, chunk: int) -> Tensor:
        ctx.save_for_backward(logits_SV, targets_S)
        ctx.chunk = chunk
        chunks = _split_into_chunks(chunk, logits_SV, targets_S)
        return torch.cat([cross_entropy(logits.float(), targets, reduction="none") for logits, targets in chunks])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  wrapped
        """[S, V] (softmax - one-hot target) * the gradient of the token's loss."""
        logits_SV, targets_S = ctx.saved_tensors
        gradient_SV = torch.empty_like(logits_SV)
        for logits, targets, loss_gradients, gradient in _split_into_chunks(ctx.chunk, logits_SV, targets_S, *grad_outputs, gradient_SV):
            probabilities = torch.softmax(logits.float(), -1, out=gradient if gradient.dtype == torch.float32 else None)
            probabilities[torch.arange(len(targets), device=targets.device), targets] -= 1
            gradient.copy_(probabilities.mul_(loss_gradients[:, None]))  # in float32 they are one tensor, and nothing is copied
        return gradient_SV, None, None


def _split_into_chunks(chunk: int, logits_SV: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split all tensors into chunks of the same tokens, of about ``chunk`` logits."""
    tokens = max(1, chunk // logits_SV.shape[1])
    return zip(*(tensor.split(tokens) for tensor in (logits_SV, *others)), strict=True)
