"""Model FLOPs utilization (MFU): the FLOPs of a step's packs, and the peak FLOP/s that this machine reaches.

Counted are the matrix products, two FLOPs per multiply-add: every linear layer forward, its input's gradient, and its weights' gradient
where they are trained; attention at half its square, since it is causal; the output head at supervised positions only.
Recomputed activations are not counted, so gradient checkpointing lowers the MFU.
"""

import time
from typing import Any

import torch
from torch import nn

from delia_ray.models.families import attention_width
from delia_ray.training.data.packing import Pack
from delia_ray.upstream.deepspeed_zero import get_numel

_CPU_SIZE, _GPU_SIZE = 2048, 8192
_MEASUREMENTS_AT_START = 4
_MAX_MEASUREMENTS = 20


class FlopCount:
    """Counts the FLOPs of a pack, forward and backward, for ``model``."""

    def __init__(self, model: Any):
        head = model.get_output_embeddings()
        weights = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not head]
        trained = sum(get_numel(weight) for weight in weights if weight.requires_grad)
        self._per_token = 4 * sum(map(get_numel, weights)) + 2 * trained
        self._per_supervised_token = (6 if head.weight.requires_grad else 4) * get_numel(head.weight)
        # Two products over half of the pairs of tokens; the backward pass takes twice as many FLOPs as the forward pass.
        self._per_attention_pair = 3 * 2 * attention_width(model)

    def __call__(self, pack: Pack) -> float:
        """Count the FLOPs of one forward and backward pass."""
        shared = pack.prefix_length
        pairs = shared**2 + sum((shared + length) ** 2 - shared**2 for length in pack.row_lengths)
        return self._per_token * len(pack.ids_T) + self._per_supervised_token * len(pack.targets_S) + self._per_attention_pair * pairs


class PeakFlops:
    """Peak FLOP/s of this device, measured on a large square matrix product: the best of four measurements at the start and of later ones.

    Other processes that start with a run can halve the speed of the first measurements, so one more is taken after each of the first steps.

    Attributes:
        flops_per_second: the best measurement so far.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device):
        self._dtype, self._device = dtype, device
        self._measurements, self.flops_per_second = 0, 0.0
        while self._measurements < _MEASUREMENTS_AT_START:
            self.measure_again()

    def measure_again(self) -> None:
        """Take one more measurement, up to 20 in all."""
        if self._measurements == _MAX_MEASUREMENTS:
            return
        size = _CPU_SIZE if self._device.type == "cpu" else _GPU_SIZE
        square = torch.randn(size, size, dtype=self._dtype, device=self._device)
        _synchronize(self._device)
        start = time.perf_counter()
        torch.mm(square, square)
        _synchronize(self._device)
        self.flops_per_second = max(self.flops_per_second, 2 * size**3 / (time.perf_counter() - start))
        self._measurements += 1


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
