from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from delia_ray.training import attention, row_attention
from delia_ray.training.attention import attend_rows, block_diagonal_mask

LENGTHS = (5, 1, 40, 37, 37, 33, 4)
PREFIX = 7


def states(dtype: torch.dtype, prefix: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def one(heads: int) -> Tensor:
        return torch.randn(1, heads, prefix + sum(LENGTHS), 16, generator=generator).to(dtype).requires_grad_()

    return one(6), one(2), one(2)


def visible(length: int, window: int | None) -> Tensor:
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    return seen if window is None else seen.triu(1 - window)


def row_by_row(query: Tensor, key: Tensor, value: Tensor, prefix: int, window: int | None) -> Tensor:
    """Each row whole, with a prefix of its own; what they make of the prefix is the same, and stands there once."""
    parts = [each.float().split((prefix, *LENGTHS), dim=2) for each in (query, key, value)]
    whole = [[torch.cat([part[0], part[row + 1]], dim=2) for part in parts] for row in range(len(LENGTHS))]
    done = [scaled_dot_product_attention(*row, attn_mask=visible(row[0].shape[2], window), enable_gqa=True) for row in whole]
    return torch.cat([done[0][:, :, :prefix], *(row[:, :, prefix:] for row in done)], dim=2).transpose(1, 2)


def assert_same(ours: Sequence[Tensor], found: Tensor, theirs: Sequence[Tensor], expected: Tensor, tolerance: float) -> None:
    """Outputs and gradients."""
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=0)
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    (found.float() * weight).sum().backward()
    (expected * weight).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.grad is not None and other.grad is not None
        torch.testing.assert_close(mine.grad.float(), other.grad.float(), atol=4 * tolerance, rtol=tolerance)


# A dropout that never drops takes the way of all dropouts, by torch's own kernel.
@pytest.mark.parametrize("dropout", [0.0, 1e-12])
@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("prefix", [0, PREFIX])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_packed_rows_attend_as_each_would_alone(
    dtype: torch.dtype, tolerance: float, prefix: int, window: int | None, dropout: float
) -> None:
    ours, theirs = states(dtype, prefix), states(dtype, prefix)
    options = {"row_lengths": LENGTHS, "prefix_length": prefix, "sliding_window": window, "dropout": dropout}
    found = attend_rows(torch.nn.Module(), *ours, None, **options)[0]
    assert_same(ours, found, theirs, row_by_row(*theirs, prefix, window), tolerance)


@pytest.mark.parametrize("scores", [1, 6 * 3 * 38 * 45])
def test_neither_small_bundles_nor_weights_computed_again_change_it(monkeypatch: pytest.MonkeyPatch, scores: int) -> None:
    monkeypatch.setattr(row_attention, "_SCORES", scores)
    monkeypatch.setattr(row_attention, "_KEPT_SCORES", 0)
    ours, theirs = states(torch.float32, PREFIX), states(torch.float32, PREFIX)
    row_attention._plan.cache_clear()  # pyright: ignore[reportPrivateUsage]
    found = attend_rows(torch.nn.Module(), *ours, None, row_lengths=LENGTHS, prefix_length=PREFIX)[0]
    row_attention._plan.cache_clear()  # pyright: ignore[reportPrivateUsage]
    assert_same(ours, found, theirs, row_by_row(*theirs, PREFIX, None), 1e-5)


def test_rows_of_about_one_length_attend_together() -> None:
    groups = row_attention._groups(LENGTHS, PREFIX, 6)  # pyright: ignore[reportPrivateUsage]
    assert groups == [[5], [1], [40, 37, 37, 33], [4]]


def by_ends(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, seen_ends: Tensor, *longest: int, **kwargs: Any) -> Tensor:
    """What the GPU's kernel does with its arguments: segments end together."""
    rows = list[Tensor]()
    back, ahead = kwargs["window_size"]
    assert longest == (int(ends.diff().max()), int(seen_ends.diff().max())) and ahead == 0 and kwargs["enable_gqa"]
    for row in range(len(ends) - 1):
        mine, seen = slice(*ends[row : row + 2].tolist()), slice(*seen_ends[row : row + 2].tolist())
        mask = visible(seen.stop - seen.start, None if back < 0 else back + 1)[-(mine.stop - mine.start) :]
        parts = (each.transpose(0, 1)[None] for each in (query[mine], key[seen], value[seen]))
        rows.append(scaled_dot_product_attention(*parts, attn_mask=mask, enable_gqa=True)[0].transpose(0, 1))
    return torch.cat(rows)


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("prefix", [0, PREFIX])
def test_the_gpus_kernel_is_told_the_same(monkeypatch: pytest.MonkeyPatch, prefix: int, window: int | None) -> None:
    monkeypatch.setattr(attention, "varlen_attn", by_ends)
    ours, theirs = states(torch.float32, prefix), states(torch.float32, prefix)
    lengths = [prefix, *LENGTHS] if prefix else list(LENGTHS)
    flash: Callable[..., Tensor] = attention._flash  # pyright: ignore[reportPrivateUsage]
    assert_same(ours, flash(*ours, lengths, prefix, None, window), theirs, row_by_row(*theirs, prefix, window), 1e-5)


@pytest.mark.parametrize("prefix", [0, 2])
def test_the_mask_for_other_architectures_says_the_same(prefix: int) -> None:
    mask = block_diagonal_mask((2, 1), prefix, torch.float32, torch.device("cpu"))[0, 0] == 0
    assert mask[prefix:, :prefix].all()
    assert mask[prefix:, prefix:].tolist() == [[True, False, False], [True, True, False], [False, False, True]]
    assert mask[:prefix].tolist() == torch.ones(prefix, prefix + 3, dtype=torch.bool).tril().tolist()
