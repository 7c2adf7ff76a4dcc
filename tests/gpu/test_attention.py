"""Attention of packed rows equals transformers' own of each row alone, in outputs and gradients.

Tolerance. Reference is transformers' attention in float64. The packed path's error may be three times that of transformers' own path in the
same precision: both round the same states, and differ in the order of sums and in what they round to bfloat16 on the way, such as the
weights before their product with the values, or the gradients of the keys of grouped heads before they are summed. On a CPU, an attention
that rounds both has 0.8 to 1.8 times the error of transformers' own, which rounds neither (2e-3 for outputs, 3e-3 to 5e-3 for gradients).
A mistake is of another order: with a window that is one token wider, or with one row of one token that also sees the row before it, errors
are 3e-2 to 1e-1 with these lengths, and ``test_the_tolerance_detects`` checks that they are above what is allowed.
"""

from dataclasses import replace

import pytest
import torch

from benchmarks.gpu.attention import (
    Shape,
    States,
    attend_packed,
    attend_row_by_row,
    compute_reference,
    compute_with_gradients,
    draw_states,
    measure_errors,
)

FACTOR = 3.0
SMALLEST = 1e-6
"""Errors below are no mistake in float32, whatever transformers' own are: seven digits and sums of some hundred terms."""
LENGTHS = {"cpu": (13, 1, 8, 8, 3), "cuda": (300, 1, 257, 128, 128, 65, 64, 17)}
"""Rows of one token, of equal length, and around the sizes of a GPU kernel's blocks."""
PREFIX = {"cpu": 5, "cuda": 70}
WINDOW = {"cpu": 4, "cuda": 50}
HEADS = {"grouped": (4, 2), "all": (4, 4), "one": (4, 1)}
DTYPES = {"cpu": (torch.float32,), "cuda": (torch.bfloat16, torch.float16)}


def build_shape(device: torch.device, heads: str, head_size: int, prefixed: bool, windowed: bool) -> Shape:
    kind = device.type
    query_heads, key_heads = HEADS[heads]
    return Shape(query_heads, key_heads, head_size, LENGTHS[kind], PREFIX[kind] if prefixed else 0, WINDOW[kind] if windowed else None)


def compare(packed: list[torch.Tensor], states: States, shape: Shape) -> list[tuple[str, float, float]]:
    """Each result with its error and the largest error that is allowed."""
    reference = compute_reference(states, shape)
    errors = measure_errors(packed, reference)
    own = measure_errors(compute_with_gradients(attend_row_by_row, states, shape), reference)
    limits = [max(FACTOR * error, SMALLEST) for error in own]
    return list(zip(("output", "gradient of queries", "of keys", "of values"), errors, limits, strict=True))


@pytest.mark.parametrize("windowed", [False, True], ids=["all_before", "window"])
@pytest.mark.parametrize("prefixed", [False, True], ids=["no_prefix", "prefix"])
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("head_size", [64, 128, 256])
def test_packed_rows_attend_as_transformers_attends_to_each_alone(
    device: torch.device, head_size: int, heads: str, prefixed: bool, windowed: bool
) -> None:
    shape = build_shape(device, heads, head_size, prefixed, windowed)
    for dtype in DTYPES[device.type]:
        states = draw_states(shape, dtype, device)
        compared = compare(compute_with_gradients(attend_packed, states, shape), states, shape)
        assert not [(dtype, *each) for each in compared if not each[1] <= each[2]]


@pytest.mark.parametrize("mistake", ["a wider window", "a key of another row"])
def test_the_tolerance_detects(device: torch.device, mistake: str) -> None:
    shape = build_shape(device, "grouped", 64, prefixed=False, windowed=True)
    states = draw_states(shape, DTYPES[device.type][0], device)
    first, second, *others = shape.row_lengths
    wrong = (
        replace(shape, window=shape.window + 1) if mistake == "a wider window" else replace(shape, row_lengths=(first + second, *others))
    )
    compared = compare(compute_with_gradients(attend_packed, states, wrong), states, shape)
    assert all(error > limit for _, error, limit in compared)
