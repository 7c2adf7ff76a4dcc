"""How much arithmetic a step needs, and how fast this machine could do it at best.

Counted are multiplications and additions of matrix products, two FLOPs each: every linear layer forward, its input's gradient,
and its weights' gradient where they are trained; attention at half its square, since it is causal; the head at learnt positions only.
Recomputation is not counted, so it lowers the share.
"""

import time
from typing import Any

import torch
from torch import nn

from delia_ray.models.families import attention_width
from delia_ray.training.packing import Pack

_CPU_SIZE, _GPU_SIZE = 2048, 8192
_TRIES_AT_START = 4
_TRIES = 20


class FlopCount:
    """FLOPs of a pack, forward and backward."""

    def __init__(self, model: Any):
        head = model.get_output_embeddings()
        linear = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not head]
        trained = sum(_numel(weight) for weight in linear if weight.requires_grad)
        self._per_token = 4 * sum(map(_numel, linear)) + 2 * trained
        self._per_learnt = (6 if head.weight.requires_grad else 4) * _numel(head.weight)
        # Two products over half the pairs, three times for the backward pass.
        self._per_pair = 3 * 2 * attention_width(model)

    def __call__(self, pack: Pack) -> float:
        """FLOPs of one forward and backward pass."""
        shared = pack.prefix_length
        pairs = shared**2 + sum((shared + length) ** 2 - shared**2 for length in pack.row_lengths)
        return self._per_token * len(pack.ids_T) + self._per_learnt * len(pack.targets_S) + self._per_pair * pairs


def _numel(weight: Any) -> int:
    return getattr(weight, "ds_numel", weight.numel())  # ZeRO-3 leaves an empty tensor in place


class MatmulPeak:
    """FLOP/s of a large square matrix product here: the best of a few tries now, and of one after each of the first steps.

    What else starts with a run, on the same processors, can halve the speed of all that are tried at once.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device):
        self._dtype, self._device = dtype, device
        self._tries, self.flops_per_second = 0, 0.0
        while self._tries < _TRIES_AT_START:
            self.try_again()

    def try_again(self) -> None:
        """Multiply once more, unless it was tried often enough."""
        if self._tries == _TRIES:
            return
        size = _CPU_SIZE if self._device.type == "cpu" else _GPU_SIZE
        square = torch.randn(size, size, dtype=self._dtype, device=self._device)
        _wait(self._device)
        start = time.perf_counter()
        torch.mm(square, square)
        _wait(self._device)
        self.flops_per_second = max(self.flops_per_second, 2 * size**3 / (time.perf_counter() - start))
        self._tries += 1


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
