"""What each step cost, by kind of row and kind of token.

Legend: G groups of rows, K kinds of token, S learnt tokens of a pack.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from delia_ray.training.packing import GROUPS, Pack
from delia_ray.training.tokens import KINDS


@dataclass(frozen=True)
class StepResult:
    """One optimiser step, summed over all workers."""

    loss: float
    """Mean cost of a learnt token in nats."""
    group_losses: dict[str, float | None]
    """The same for task rows and for diverse rows; null where a step has none."""
    kind_losses: dict[str, float | None]
    """The same for each kind of token, over all rows."""
    learnt_tokens: int
    gradient_norm: float
    """2-norm before clipping."""
    update_norm: float
    """2-norm of the change of all trained parameters."""
    learning_rate: float
    flops: float


class Ledger:
    """Adds up the packs of a step, then says what the step was over all workers. One reduction a step, of a few numbers."""

    def __init__(self, device: torch.device):
        self._device = device
        self._sums_GK = torch.zeros(len(GROUPS), len(KINDS), dtype=torch.float64)
        self._counts_GK = torch.zeros_like(self._sums_GK)
        self._flops = 0.0

    def add(self, pack: Pack, costs_S: Tensor, flops: float) -> None:
        """Count a pack's learnt tokens; ``costs_S`` in the order of its targets."""
        cells_S = torch.from_numpy(pack.groups_S * len(KINDS) + pack.kinds_S)
        self._sums_GK.view(-1).index_add_(0, cells_S, costs_S.detach().double().cpu())
        self._counts_GK.view(-1).add_(torch.bincount(cells_S, minlength=self._counts_GK.numel()))
        self._flops += flops

    def close(self, gradient_norm: float, update_square: float, learning_rate: float) -> StepResult:
        """The step over all workers.

        Args:
            update_square: squared norm of the change of this worker's share of the parameters.
        """
        others = torch.tensor([self._flops, update_square], dtype=torch.float64)
        totals = torch.cat([self._sums_GK.flatten(), self._counts_GK.flatten(), others]).to(self._device)
        dist.all_reduce(totals)
        cells = self._sums_GK.numel()
        sums_GK, counts_GK = totals[:cells].cpu().view_as(self._sums_GK), totals[cells:-2].cpu().view_as(self._counts_GK)
        flops, square = totals[-2:].tolist()
        return StepResult(
            loss=(sums_GK.sum() / counts_GK.sum()).item(),
            group_losses=dict(zip(GROUPS, _means(sums_GK.sum(1), counts_GK.sum(1)), strict=True)),
            kind_losses=dict(zip(KINDS[1:], _means(sums_GK.sum(0), counts_GK.sum(0))[1:], strict=True)),
            learnt_tokens=int(counts_GK.sum()),
            gradient_norm=gradient_norm,
            update_norm=square**0.5,
            learning_rate=learning_rate,
            flops=flops,
        )


def _means(sums: Tensor, counts: Tensor) -> list[float | None]:
    return [total / count if count else None for total, count in zip(sums.tolist(), counts.tolist(), strict=True)]


_BLOCK = 4096
_EVERY = 16


class UpdateNorm:
    """Watches an optimiser and adds up how far its steps moved the parameters that this worker holds.

    Of a tensor of 2^18 elements or more it watches every sixteenth block of 4,096 and counts it sixteen times: to remember
    all of them would take a twentieth of a step that trains every weight (docs/training_profile.md).
    """

    def __init__(self, optimizer: torch.optim.Optimizer, trained: int, world: int):
        self._before: list[Tensor] = []
        self._square = 0.0
        held = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
        # Without ZeRO every worker holds, and counts, all parameters; with it each holds its share, the last one padded.
        self._share = 1.0 / world if held == trained else 1.0
        optimizer.register_step_pre_hook(self._remember)
        optimizer.register_step_post_hook(self._compare)

    def take(self) -> float:
        """The squared norm since the last call."""
        square, self._square = self._square, 0.0
        return square * self._share

    def _remember(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._before = [watched.clone() for watched, _ in _moving(optimizer)]

    def _compare(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for before, (watched, weight) in zip(self._before, _moving(optimizer), strict=True):
            self._square += weight * torch.linalg.vector_norm(before.sub_(watched), dtype=torch.float32).item() ** 2
        self._before = []


def _moving(optimizer: torch.optim.Optimizer) -> list[tuple[Tensor, float]]:
    moving = (parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.grad is not None)
    return [_sampled(parameter.detach()) for parameter in moving]


def _sampled(parameter: Tensor) -> tuple[Tensor, float]:
    """What is watched of ``parameter``, and how many times it counts."""
    if parameter.numel() < _BLOCK * _EVERY * 4 or not parameter.is_contiguous():
        return parameter, 1.0
    whole = parameter.numel() // (_BLOCK * _EVERY) * _BLOCK * _EVERY
    watched = parameter.view(-1)[:whole].view(-1, _EVERY, _BLOCK)[:, 0]
    return watched, parameter.numel() / watched.numel()
