import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from delia_ray.training.attention import attend_rows

LENGTHS = (5, 1, 40)


def states(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, heads, sum(LENGTHS), 16, generator=generator).to(dtype).requires_grad_() for heads in (6, 2, 2)]


def row_by_row(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    rows = zip(*(each.float().split(LENGTHS, dim=2) for each in (query, key, value)), strict=True)
    return torch.cat([scaled_dot_product_attention(*row, is_causal=True, enable_gqa=True) for row in rows], dim=2).transpose(1, 2)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_packed_rows_attend_as_each_would_alone(dtype: torch.dtype, tolerance: float) -> None:
    ours, theirs = states(dtype), states(dtype)
    found = attend_rows(torch.nn.Module(), *ours, None, row_lengths=LENGTHS)[0]
    expected = row_by_row(*theirs)
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=0)
    weight = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    (found.float() * weight).sum().backward()
    (expected * weight).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.grad is not None and other.grad is not None
        torch.testing.assert_close(mine.grad.float(), other.grad.float(), atol=4 * tolerance, rtol=tolerance)
