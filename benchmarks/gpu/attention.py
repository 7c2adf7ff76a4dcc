"""Attention of packed rows against transformers' own attention, row by row: errors of outputs and gradients, and times.

    python -m benchmarks.gpu.attention --device cuda attention/128

The reference computes in float64 what transformers computes: its scaled dot product attention of each row with the row's own copy of the
prefix, under a mask. An error is the norm of the difference over the norm of the reference.

Legend: H query heads, K key heads, T tokens of a pack, D head size, L tokens of a row with its prefix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from benchmarks.gpu.child import Figures, run_cases, time_calls
from delia_ray.training.kernels.packed_attention import AttendRows, attend_by_library, block_diagonal_mask, divide_pack

States = tuple[Tensor, Tensor, Tensor]
"""[1, H, T, D] queries, and [1, K, T, D] keys and values."""


@dataclass(frozen=True)
class Shape:
    """Sizes of one attention over a pack."""

    heads: int
    key_heads: int
    head_size: int
    row_lengths: Sequence[int]
    prefix: int = 0
    window: int | None = None


_LENGTHS = {"cuda": (512, 384, 320, 256, 256, 192, 128) * 2, "cpu": (13, 8, 8, 3)}
_HEADS = {"attention/64": (32, 8, 64), "attention/128": (32, 8, 128), "attention/256": (16, 16, 256)}
"""Case -> query heads, key heads and head size of Llama-3.2-1B, of Llama-3-8B and Mistral-7B, and of Gemma-7B."""
CASES = tuple(_HEADS)
_WARM_CALLS, _TIMED_CALLS = 2, 7


def draw_states(shape: Shape, dtype: torch.dtype, device: torch.device) -> States:
    """Draw random queries, keys and values that want gradients."""
    generator = torch.Generator().manual_seed(0)
    tokens = shape.prefix + sum(shape.row_lengths)

    def draw(heads: int) -> Tensor:
        return torch.randn(1, heads, tokens, shape.head_size, generator=generator).to(device, dtype).requires_grad_()

    return draw(shape.heads), draw(shape.key_heads), draw(shape.key_heads)


def attend_packed(states: States, shape: Shape, attend: AttendRows = attend_by_library) -> Tensor:
    """[1, T, H, D] output for all rows at once, as a training on a GPU computes it."""
    return attend(*states, divide_pack(shape.row_lengths, shape.prefix, states[0].device), None, shape.window)


def attend_row_by_row(states: States, shape: Shape) -> Tensor:
    """[1, T, H, D] output by transformers, each row by itself with its own copy of the prefix; the prefix's outputs are returned once."""
    parts = [each.split((shape.prefix, *shape.row_lengths), dim=2) for each in states]
    attend = partial(sdpa_attention_forward, _TransformersLayer(shape.heads // shape.key_heads))
    outputs: list[Tensor] = []
    for row in range(len(shape.row_lengths)):
        query, key, value = (torch.cat([part[0], part[row + 1]], dim=2) for part in parts)
        output, _ = attend(query, key, value, _build_mask(query, shape.window))
        outputs.append(output if row == 0 else output[:, shape.prefix :])
    return torch.cat(outputs, dim=1)


class _TransformersLayer(nn.Module):
    """What transformers' attention functions read from a layer."""

    is_causal = True

    def __init__(self, groups: int):
        super().__init__()
        self.num_key_value_groups = groups


def _build_mask(query: Tensor, window: int | None) -> Tensor:
    """[1, 1, L, L] which of a row's tokens each of them attends to."""
    length = query.shape[2]
    mask_LL = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
    return (mask_LL if window is None else mask_LL.triu(1 - window))[None, None]


def compute_with_gradients(attend: Callable[[States, Shape], Tensor], states: States, shape: Shape) -> list[Tensor]:
    """The output, and the gradients of queries, keys and values for one random gradient of the output."""
    copies: Any = tuple(each.detach().clone().requires_grad_() for each in states)
    output = attend(copies, shape)
    gradient = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output.device, output.dtype)
    return [output.detach(), *torch.autograd.grad(output, copies, gradient)]


def measure_errors(results: Sequence[Tensor], reference: Sequence[Tensor]) -> list[float]:
    """Relative error of each result: the norm of its difference from the reference over the reference's norm."""
    pairs = zip(results, reference, strict=True)
    return [float((ours.double() - exact).norm() / exact.norm()) for ours, exact in pairs]


def compute_reference(states: States, shape: Shape) -> list[Tensor]:
    """The output and the gradients in float64, from the same rounded states."""
    exact: Any = tuple(each.detach().double() for each in states)
    return compute_with_gradients(attend_row_by_row, exact, shape)


def measure(case: str, device: torch.device) -> Figures:
    """Errors, and milliseconds of a forward and backward pass: packed, under a mask over the whole pack, and row by row."""
    heads, key_heads, head_size = _HEADS[case]
    shape = Shape(heads, key_heads, head_size, _LENGTHS[device.type])
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    states = draw_states(shape, dtype, device)
    reference = compute_reference(states, shape)
    mask = block_diagonal_mask(shape.row_lengths, shape.prefix, dtype, device)
    layer = _TransformersLayer(heads // key_heads)
    ways: dict[str, Callable[[States, Shape], Tensor]] = {
        "packed": attend_packed,
        "masked": lambda states, _: sdpa_attention_forward(layer, *states, mask)[0],
        "row_by_row": attend_row_by_row,
    }
    figures: Figures = {"tokens": sum(shape.row_lengths), "head_size": head_size, "heads": heads, "key_heads": key_heads}
    for name, attend in ways.items():
        figures[f"{name}_error"] = max(measure_errors(compute_with_gradients(attend, states, shape), reference))
        seconds = time_calls(lambda attend=attend: attend(states, shape).sum().backward(), device, _WARM_CALLS + _TIMED_CALLS)
        figures[f"{name}_ms"] = round(1000 * median(seconds[_WARM_CALLS:]), 3)
    return figures


if __name__ == "__main__":
    run_cases(measure)
