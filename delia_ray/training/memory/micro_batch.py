"""What one forward and backward pass over a micro-batch holds at its peak, measured on tensors without data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from delia_ray.training.data.packing import GROUPS, Pack, pack
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.memory.live_bytes import LiveBytes, Use
from delia_ray.training.objective import TokenLoss


@dataclass(frozen=True)
class MicroBatch:
    """Shape of a micro-batch: rows of one length, and a shorter one where they do not fill it."""

    tokens: int
    """Tokens in all."""
    row_tokens: int
    """Tokens of a row."""
    supervised: float
    """Share of the tokens that are supervised."""

    def build(self) -> Pack:
        """Build a pack of this shape; all rows are diverse ones, whose loss takes more with ``objective.kind: kl``."""
        lengths = [self.row_tokens] * (self.tokens // self.row_tokens)
        if rest := self.tokens % self.row_tokens:
            lengths.append(rest)
        return pack([_build_row(length, round(self.supervised * length)) for length in lengths])


@dataclass(frozen=True)
class GradientHandling:
    """What becomes of the gradients of trained parameters during a backward pass."""

    are_kept: bool
    """Whether each stays with its parameter; otherwise it moves to the bucket."""
    exist_before: bool
    """Whether those of an earlier micro-batch of the step are there already."""
    bucket_bytes: int = 0
    """The bucket, which is allocated when the first gradient is there."""
    part_bytes: int = 0
    """The worker's part of all gradients, to which the bucket is emptied when it is full."""


def measure_pass(loss: TokenLoss, batch: MicroBatch, gradients: GradientHandling, live: LiveBytes) -> Mapping[Use, int]:
    """Run one pass, and return the bytes at its peak, by what they are for; weights are not counted.

    A model that cannot keep packed rows apart gets one row.

    Args:
        loss: with parameters without data, in the mode of ``live``.
    """
    tokens = batch.row_tokens if loss.packing_mode == "single" else batch.tokens
    packed = MicroBatch(tokens, batch.row_tokens, batch.supervised).build()
    trained = [weight for weight in loss.parameters() if weight.requires_grad]
    with live.count(ignored=[*loss.parameters(), *loss.buffers()]):
        _follow_phases(loss, live)
        held = _follow_gradients(trained, gradients, live)
        loss(packed).sum().backward()
    del held
    return live.peak


def _build_row(length: int, supervised: int) -> TokenizedRow:
    kinds = np.zeros(length, dtype=np.int64)
    kinds[length - min(max(supervised, 1), length) :] = 1
    return TokenizedRow(np.zeros(length, dtype=np.int64).tolist(), kinds.tolist(), GROUPS[1])


def _follow_phases(loss: TokenLoss, live: LiveBytes) -> None:
    """Tell ``live`` when the layers run, and when the output head and the loss do, forward and backward."""

    def set_use(use: Use) -> None:
        live.use = use

    def enter_head(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        set_use("logits")
        if args[0].requires_grad:
            args[0].register_hook(lambda _gradient: set_use("layers"))

    loss.model.register_forward_pre_hook(lambda *_: set_use("layers"))
    loss.model.get_output_embeddings().register_forward_pre_hook(enter_head)


def _follow_gradients(trained: Sequence[nn.Parameter], gradients: GradientHandling, live: LiveBytes) -> list[Tensor]:
    """Keep or drop each gradient when it is there, and return a list that holds the buffers as they are needed."""
    held: list[Tensor] = []
    in_bucket = 0

    def hold(size: int, use: Use) -> None:
        before, live.use = live.use, use
        held.append(torch.empty(size, dtype=torch.uint8))
        live.use = before

    def take(weight: Tensor) -> None:
        nonlocal in_bucket
        assert weight.grad is not None
        live.assign(weight.grad, "gradients")
        if not in_bucket and not (gradients.exist_before and gradients.are_kept):
            hold(gradients.bucket_bytes, "bucket")
        was_full, in_bucket = in_bucket > gradients.bucket_bytes, in_bucket + weight.grad.nbytes
        if in_bucket > gradients.bucket_bytes and not was_full:
            hold(gradients.part_bytes, "gradients")
        if not gradients.are_kept:
            weight.grad = None

    if gradients.exist_before:
        hold(gradients.part_bytes, "gradients")
    if gradients.exist_before and gradients.are_kept:  # the step empties the bucket
        hold(gradients.bucket_bytes, "bucket")
    for weight in trained:
        if gradients.exist_before and gradients.are_kept:
            weight.grad = torch.empty_like(weight)
            live.assign(weight.grad, "gradients")
        weight.register_post_accumulate_grad_hook(take)
    return held
