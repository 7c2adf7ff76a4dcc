from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from delia_ray.training.kernels import cpu_attention, packed_attention
from delia_ray.training.kernels.cpu_attention import attend_in_batches
from delia_ray.training.kernels.packed_attention import (
    AttendRows,
    PackedRows,
    attend_by_library,
    attend_packed_rows,
    block_diagonal_mask,
    build_varlen_metadata,
)

LENGTHS = (5, 1, 40, 37, 37, 33, 4)
PREFIX = 7


def states(dtype: torch.dtype, prefix: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def one(heads: int) -> Tensor:
        return torch.randn(1, heads, prefix + sum(LENGTHS), 16, generator=generator).to(dtype).requires_grad_()

    return one(6), one(2), one(2)


def visible(length: int, window: int | None) -> Tensor:
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return causal if window is None else causal.triu(1 - window)


def row_by_row(query: Tensor, key: Tensor, value: Tensor, prefix: int, window: int | None) -> Tensor:
    """Attention of each row by itself with its own copy of the prefix; the prefix's outputs are the same for all and are returned once."""
    parts = [each.float().split((prefix, *LENGTHS), dim=2) for each in (query, key, value)]
    rows = [[torch.cat([part[0], part[row + 1]], dim=2) for part in parts] for row in range(len(LENGTHS))]
    attended = [scaled_dot_product_attention(*row, attn_mask=visible(row[0].shape[2], window), enable_gqa=True) for row in rows]
    return torch.cat([attended[0][:, :, :prefix], *(row[:, :, prefix:] for row in attended)], dim=2).transpose(1, 2)


def assert_same(inputs: Sequence[Tensor], output: Tensor, expected_inputs: Sequence[Tensor], expected: Tensor, tolerance: float) -> None:
    """Compare outputs, and the gradients of the inputs."""
    torch.testing.assert_close(output.float(), expected, atol=tolerance, rtol=0)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (output.float() * weight).sum().backward()
    (expected * weight).sum().backward()
    for ours, theirs in zip(inputs, expected_inputs, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad.float(), theirs.grad.float(), atol=4 * tolerance, rtol=tolerance)


# A dropout that never drops takes the code path of dropout.
@pytest.mark.parametrize("dropout", [0.0, 1e-12])
@pytest.mark.parametrize("attend", [attend_in_batches, attend_by_library])
@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("prefix", [0, PREFIX])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_packed_rows_attend_as_each_does_alone(
    dtype: torch.dtype, tolerance: float, prefix: int, window: int | None, attend: AttendRows, dropout: float
) -> None:
    ours, theirs = states(dtype, prefix), states(dtype, prefix)
    options: dict[str, Any] = {"packed_rows": PackedRows(LENGTHS, prefix), "sliding_window": window, "dropout": dropout}
    output = attend_packed_rows(torch.nn.Module(), *ours, None, attend=attend, **options)[0]
    assert_same(ours, output, theirs, row_by_row(*theirs, prefix, window), tolerance)


@pytest.mark.parametrize("scores", [1, 6 * 3 * 38 * 45])
def test_neither_small_batches_nor_recomputed_weights_change_the_result(monkeypatch: pytest.MonkeyPatch, scores: int) -> None:
    monkeypatch.setattr(cpu_attention, "_MAX_BATCH_SCORES", scores)
    monkeypatch.setattr(cpu_attention, "_MAX_SAVED_SCORES", 0)
    ours, theirs = states(torch.float32, PREFIX), states(torch.float32, PREFIX)
    cpu_attention._build_plan.cache_clear()  # pyright: ignore[reportPrivateUsage]
    output = attend_in_batches(*ours, PackedRows(LENGTHS, PREFIX), None, None)
    cpu_attention._build_plan.cache_clear()  # pyright: ignore[reportPrivateUsage]
    assert_same(ours, output, theirs, row_by_row(*theirs, PREFIX, None), 1e-5)


def test_rows_of_similar_length_are_batched() -> None:
    groups = cpu_attention._group_by_length(LENGTHS, PREFIX, 6)  # pyright: ignore[reportPrivateUsage]
    assert groups == [[5], [1], [40, 37, 37, 33], [4]]


def attend_by_segments(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, *longest: int, **kwargs: Any
) -> Tensor:
    """Plain version of torch's ``varlen_attn``, which aligns the last query of a segment with its last key."""
    rows = list[Tensor]()
    back, ahead = kwargs["window_size"]
    assert longest == (int(cu_seqlens_q.diff().max()), int(cu_seqlens_k.diff().max())) and ahead == 0 and kwargs["enable_gqa"]
    for row in range(len(cu_seqlens_q) - 1):
        queries, keys = slice(*cu_seqlens_q[row : row + 2].tolist()), slice(*cu_seqlens_k[row : row + 2].tolist())
        mask = visible(keys.stop - keys.start, None if back < 0 else back + 1)[-(queries.stop - queries.start) :]
        parts = (each.transpose(0, 1)[None] for each in (query[queries], key[keys], value[keys]))
        rows.append(scaled_dot_product_attention(*parts, attn_mask=mask, enable_gqa=True)[0].transpose(0, 1))
    return torch.cat(rows)


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("prefix", [0, PREFIX])
def test_the_gpus_kernel_gets_equivalent_arguments(monkeypatch: pytest.MonkeyPatch, prefix: int, window: int | None) -> None:
    monkeypatch.setattr(packed_attention, "varlen_attn", attend_by_segments)
    ours, theirs = states(torch.float32, prefix), states(torch.float32, prefix)
    rows = PackedRows(LENGTHS, prefix)
    metadata = build_varlen_metadata(rows, torch.device("cpu"))
    attend_varlen: Callable[..., Tensor] = packed_attention._attend_varlen  # pyright: ignore[reportPrivateUsage]
    assert_same(ours, attend_varlen(*ours, rows, metadata, None, window), theirs, row_by_row(*theirs, prefix, window), 1e-5)


@pytest.mark.parametrize("prefix", [0, 2])
def test_the_mask_for_other_architectures_is_equivalent(prefix: int) -> None:
    mask = block_diagonal_mask((2, 1), prefix, torch.float32, torch.device("cpu"))[0, 0] == 0
    assert mask[prefix:, :prefix].all()
    assert mask[prefix:, prefix:].tolist() == [[True, False, False], [True, True, False], [False, False, True]]
    assert mask[:prefix].tolist() == torch.ones(prefix, prefix + 3, dtype=torch.bool).tril().tolist()
