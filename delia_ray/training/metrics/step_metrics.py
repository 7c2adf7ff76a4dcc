"""Metrics of one optimizer step: losses by group of rows and kind of token, gradient and update norms, FLOPs.

Legend: G groups of rows, K kinds of token, S supervised tokens of a pack.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from delia_ray.training.data.packing import GROUPS, Pack
from delia_ray.training.data.tokens import KINDS


@dataclass(frozen=True)
class StepResult:
    """Metrics of one optimizer step over all workers."""

    loss: float
    """Mean loss of a supervised token, in nats."""
    group_losses: dict[str, float | None]
    """Mean loss of task rows and of diverse rows; None where a step has none."""
    kind_losses: dict[str, float | None]
    """Mean loss of each kind of token, over all rows; None where a step has none."""
    supervised_tokens: int
    gradient_norm: float
    """2-norm of the gradient before clipping."""
    update_norm: float
    """2-norm of the change of all trained parameters in this step."""
    learning_rate: float
    flops: float
    """Of the matrix products, forward and backward."""


class StepMetrics:
    """Accumulates the metrics of a worker's packs of a step, then sums them over all workers in one small all-reduce."""

    def __init__(self, device: torch.device):
        self._device = device
        self._sums_GK = torch.zeros(len(GROUPS), len(KINDS), dtype=torch.float64)
        self._counts_GK = torch.zeros_like(self._sums_GK)
        self._flops = 0.0

    def add(self, pack: Pack, losses_S: Tensor, flops: float) -> None:
        """Add a pack with the losses of its supervised tokens, in the order of ``pack.targets_S``, and its FLOPs."""
        cells_S = torch.from_numpy(pack.groups_S * len(KINDS) + pack.kinds_S)
        self._sums_GK.view(-1).index_add_(0, cells_S, losses_S.detach().double().cpu())
        self._counts_GK.view(-1).add_(torch.bincount(cells_S, minlength=self._counts_GK.numel()))
        self._flops += flops

    def reduce(self, gradient_norm: float, update_square: float, learning_rate: float) -> StepResult:
        """Return the metrics of the step over all workers. All workers call it.

        Args:
            update_square: squared norm of the change of the parameters that this worker counts.
        """
        scalars = torch.tensor([self._flops, update_square], dtype=torch.float64)
        totals = torch.cat([self._sums_GK.flatten(), self._counts_GK.flatten(), scalars]).to(self._device)
        dist.all_reduce(totals)
        cells = self._sums_GK.numel()
        sums_GK, counts_GK = totals[:cells].cpu().view_as(self._sums_GK), totals[cells:-2].cpu().view_as(self._counts_GK)
        flops, square = totals[-2:].tolist()
        return StepResult(
            loss=(sums_GK.sum() / counts_GK.sum()).item(),
            group_losses=dict(zip(GROUPS, _divide(sums_GK.sum(1), counts_GK.sum(1)), strict=True)),
            kind_losses=dict(zip(KINDS[1:], _divide(sums_GK.sum(0), counts_GK.sum(0))[1:], strict=True)),
            supervised_tokens=int(counts_GK.sum()),
            gradient_norm=gradient_norm,
            update_norm=square**0.5,
            learning_rate=learning_rate,
            flops=flops,
        )


def _divide(sums: Tensor, counts: Tensor) -> list[float | None]:
    return [total / count if count else None for total, count in zip(sums.tolist(), counts.tolist(), strict=True)]


_BLOCK_SIZE = 4096
_BLOCK_STRIDE = 16


class UpdateNorm:
    """Squared norm of an optimizer's updates to the parameters that this worker holds, summed by hooks around its steps.

    Of a tensor of 2^18 elements or more it compares every sixteenth block of 4,096 and counts it sixteen times: copying all of them
    would take a twentieth of a step that trains every weight (docs/training_profile.md).
    """

    def __init__(self, optimizer: torch.optim.Optimizer, num_trained: int, world: int):
        self._before: list[Tensor] = []
        self._square = 0.0
        num_held = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
        # Without ZeRO every worker holds all parameters, so each counts 1 / world; with ZeRO each holds a partition, the last one padded.
        self._weight = 1.0 / world if num_held == num_trained else 1.0
        optimizer.register_step_pre_hook(self._copy_parameters)
        optimizer.register_step_post_hook(self._add_update)

    def pop_square(self) -> float:
        """Return the squared norm of all updates since the last call."""
        square, self._square = self._square, 0.0
        return square * self._weight

    def _copy_parameters(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._before = [sample.clone() for sample, _ in _sample_parameters(optimizer)]

    def _add_update(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for before, (sample, weight) in zip(self._before, _sample_parameters(optimizer), strict=True):
            self._square += weight * torch.linalg.vector_norm(before.sub_(sample), dtype=torch.float32).item() ** 2
        self._before = []


def _sample_parameters(optimizer: torch.optim.Optimizer) -> list[tuple[Tensor, float]]:
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.grad is not None)
    return [_sample(parameter.detach()) for parameter in parameters]


def _sample(parameter: Tensor) -> tuple[Tensor, float]:
    """Return the elements of ``parameter`` to compare, and the weight of their squared norm."""
    if parameter.numel() < _BLOCK_SIZE * _BLOCK_STRIDE * 4 or not parameter.is_contiguous():
        return parameter, 1.0
    size = parameter.numel() // (_BLOCK_SIZE * _BLOCK_STRIDE) * _BLOCK_SIZE * _BLOCK_STRIDE
    sample = parameter.view(-1)[:size].view(-1, _BLOCK_STRIDE, _BLOCK_SIZE)[:, 0]
    return sample, parameter.numel() / sample.numel()
