"""Choice of the precision."""

import pytest
import torch

from delia_ray.models import precision, resolve_dtype


@pytest.mark.parametrize(
    ("capabilities", "faster", "expected"),
    [
        ({}, torch.bfloat16, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16, torch.bfloat16),
        ({"avx512_bf16": True}, torch.float32, torch.float32),
        ({"avx512_bf16": True, "amx_bf16": True}, torch.float32, torch.bfloat16),
    ],
    ids=["not native", "native and faster", "native and slower", "matrix unit, not timed"],
)
def test_auto_precision_is_bfloat16_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], faster: torch.dtype, expected: torch.dtype
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(precision, "time_matmul", lambda dtype: 1.0 if dtype == faster else 2.0)
    assert resolve_dtype("auto") == expected
