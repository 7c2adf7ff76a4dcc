"""How much arithmetic a step needs, and how fast this machine could do it at best.

Counted are multiplications and additions of matrix products, two FLOPs each: every linear layer forward, its input's gradient,
and its weights' gradient where they are trained; attention at half its square, since it is causal; the head at learnt positions only.
Recomputation is not counted, so it lowers the share.
"""

import time
from typing import Any

import torch
from torch import nn

from delia_ray.training.packing import Pack

_SIZE = 2048
_SECONDS = 0.3


class FlopCount:
    """FLOPs of a pack, forward and backward."""

    def __init__(self, model: Any):
        head = model.get_output_embeddings()
        linear = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not head]
        trained = sum(_numel(weight) for weight in linear if weight.requires_grad)
        self._per_token = 4 * sum(map(_numel, linear)) + 2 * trained
        self._per_learnt = (6 if head.weight.requires_grad else 4) * _numel(head.weight)
        config = model.config.get_text_config()
        width = config.num_attention_heads * (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self._per_pair = 3 * 2 * width * config.num_hidden_layers  # two products over half the pairs, three times for the backward pass

    def __call__(self, pack: Pack) -> float:
        """FLOPs of one forward and backward pass."""
        shared = pack.prefix_length
        pairs = shared**2 + sum((shared + length) ** 2 - shared**2 for length in pack.row_lengths)
        return self._per_token * len(pack.ids_T) + self._per_learnt * len(pack.targets_S) + self._per_pair * pairs


def _numel(weight: Any) -> int:
    return getattr(weight, "ds_numel", weight.numel())  # ZeRO-3 leaves an empty tensor in place


def matmul_peak(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of a large square matrix product here and now: the best of a few tries within a third of a second."""
    left, right = (torch.randn(_SIZE, _SIZE, dtype=dtype, device=device) for _ in range(2))
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < _SECONDS or best == float("inf"):
        _wait(device)
        start = time.perf_counter()
        torch.mm(left, right)
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * _SIZE**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
