"""Attention of packed rows: each token sees what came before it in its own row, and nothing of the other rows.

No mask over the whole pack is needed, so the cost grows with the rows' lengths and not with the pack's.
Legend: H query heads, K key heads, T tokens of a pack, D head size.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

PACKED = "delia_packed_rows"
"""The name under which transformers finds ``attend_rows``."""


def use_packed_attention(model: Any) -> bool:
    """Let ``model`` attend row by row, if its architecture can; otherwise it needs ``block_diagonal_mask``.

    Some architectures do more than scale and mask their scores (soft-capping, attention sinks), and keep their own attention.
    """
    config = model.config.get_text_config()
    if not model._can_set_attn_implementation() or getattr(config, "attn_logit_softcapping", None) or not model._supports_sdpa:
        return False
    model.set_attn_implementation(PACKED)
    return True


def attend_rows(
    module: nn.Module,
    query_1HTD: Tensor,
    key_1KTD: Tensor,
    value_1KTD: Tensor,
    attention_mask: None,
    *,
    row_lengths: Sequence[int],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """[1, T, H, D] attention output, causal within each row (an implementation of transformers' ``AttentionInterface``).

    Args:
        row_lengths: tokens of each row of the pack, T together.
        sliding_window: how many tokens back a token sees, itself included; None is without limit.
    """
    if query_1HTD.is_cuda and dropout == 0 and query_1HTD.dtype in (torch.float16, torch.bfloat16):
        return _flash(query_1HTD, key_1KTD, value_1KTD, row_lengths, scaling, sliding_window), None
    query, key, value = (states.split(list(row_lengths), dim=2) for states in (query_1HTD, key_1KTD, value_1KTD))
    attended = [_one_row(*row, scaling, dropout, sliding_window) for row in zip(query, key, value, strict=True)]
    return torch.cat(attended, dim=2).transpose(1, 2), None


AttentionInterface.register(PACKED, attend_rows)  # pyright: ignore[reportArgumentType]  keyword-only row_lengths


def _one_row(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float, sliding_window: int | None) -> Tensor:
    length = query.shape[2]
    window = None
    if sliding_window is not None and length > sliding_window:
        seen_TT = torch.ones(length, length, dtype=torch.bool, device=query.device)
        window = seen_TT.tril() & seen_TT.triu(1 - sliding_window)
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and window is None and dropout == 0:
        return _products(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling)
    return scaled_dot_product_attention(
        query, key, value, attn_mask=window, dropout_p=dropout, is_causal=window is None, scale=scaling, enable_gqa=True
    )


def _products(query_1HTD: Tensor, key_1KTD: Tensor, value_1KTD: Tensor, scaling: float) -> Tensor:
    """[1, H, T, D] causal attention by two products in bfloat16 and a softmax in float32.

    On a CPU torch's own kernels take up to twice as long (docs/training.md): one multiplies in float32, the other in small tiles.
    """
    _, heads, length, size = query_1HTD.shape
    groups = key_1KTD.shape[1]
    ahead_TT = torch.full((length, length), -torch.inf, device=query_1HTD.device).triu(1)
    scores = (query_1HTD * scaling).reshape(groups, -1, size) @ key_1KTD[0].transpose(1, 2)
    weights = (scores.view(heads, length, length) + ahead_TT).softmax(-1).to(value_1KTD.dtype)
    return (weights.view(groups, -1, length) @ value_1KTD[0]).view(1, heads, length, size)


def _flash(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scaling: float | None, window: int | None) -> Tensor:
    """The same in one kernel, which takes all rows at once."""
    ends = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=query.device)
    longest, back = max(lengths), -1 if window is None else window - 1
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))  # [T, H, D]
    attended = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling, window_size=(back, 0), enable_gqa=True)
    assert isinstance(attended, Tensor)
    return attended[None]


def block_diagonal_mask(row_lengths: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """[1, 1, T, T] additive mask that says the same as ``attend_rows``, for architectures with an attention of their own."""
    row_T = torch.repeat_interleave(torch.arange(len(row_lengths), device=device), torch.tensor(list(row_lengths), device=device))
    causal_TT = torch.ones(len(row_T), len(row_T), dtype=torch.bool, device=device).tril()
    visible_TT = causal_TT & (row_T[:, None] == row_T[None, :])
    return torch.zeros_like(visible_TT, dtype=dtype).masked_fill(~visible_TT, torch.finfo(dtype).min)[None, None]
