"""Attention of packed rows: each token sees the pack's prefix and what came before it in its own row, and nothing of the others.

No mask over the whole pack is needed, so the cost grows with the rows' lengths and not with the pack's.
Legend: H query heads, K key heads, T tokens of a pack, Q tokens of a row, C tokens it sees (Q and those of the prefix), D head size.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from delia_ray.training.row_attention import attend_together

PACKED = "delia_packed_rows"
"""The name under which transformers finds ``attend_rows``."""


class NotHandedOnError(RuntimeError):
    """An architecture's layers keep arguments of the forward pass from their attention."""


def attend_rows(
    module: nn.Module,
    query_1HTD: Tensor,
    key_1KTD: Tensor,
    value_1KTD: Tensor,
    attention_mask: None,
    *,
    row_lengths: Sequence[int] | None = None,
    prefix_length: int = 0,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    seen_windows: list[int | None] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """[1, T, H, D] attention output, causal within each row (an implementation of transformers' ``AttentionInterface``).

    Args:
        row_lengths: tokens of each row of the pack, with the prefix T together.
        prefix_length: tokens before the first row, which every row sees.
        sliding_window: how many tokens back a token sees, itself included; None is without limit.
        seen_windows: takes the window that the layer names, for a look at what an architecture hands over.
    """
    if row_lengths is None:
        raise NotHandedOnError(f"{type(module).__name__} got no row_lengths")
    if seen_windows is not None:
        seen_windows.append(sliding_window)
    lengths = [prefix_length, *row_lengths] if prefix_length else list(row_lengths)
    states = (query_1HTD, key_1KTD, value_1KTD)
    if query_1HTD.is_cuda and dropout == 0 and query_1HTD.dtype in (torch.float16, torch.bfloat16):
        return _flash(*states, lengths, prefix_length, scaling, sliding_window), None
    if query_1HTD.device.type == "cpu" and dropout == 0:
        scale = query_1HTD.shape[-1] ** -0.5 if scaling is None else scaling
        query, key, value = (each.squeeze(0) for each in states)
        attended_HTD = attend_together(query, key, value, row_lengths, prefix_length, scale, sliding_window)
        return attended_HTD.transpose(0, 1).unsqueeze(0), None
    query, key, value = query_1HTD.split(lengths, dim=2), *(_seen(each, lengths, prefix_length) for each in states[1:])
    attended = [_one_row(*row, scaling, dropout, sliding_window) for row in zip(query, key, value, strict=True)]
    return torch.cat(attended, dim=2).transpose(1, 2), None


AttentionInterface.register(PACKED, attend_rows)  # pyright: ignore[reportArgumentType]  keyword-only row_lengths


def _seen(states_1KTD: Tensor, lengths: Sequence[int], prefix_length: int) -> Sequence[Tensor]:
    """What the prefix sees, if there is one, and what each row sees: [1, K, C, D]."""
    parts = states_1KTD.split(list(lengths), dim=2)
    return [parts[0], *(torch.cat([parts[0], row], dim=2) for row in parts[1:])] if prefix_length else parts


def _one_row(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float, sliding_window: int | None) -> Tensor:
    length, seen = query.shape[2], key.shape[2]
    window = seen if sliding_window is None else min(sliding_window, seen)
    mask_QC = None
    if window < seen or length < seen:
        everything_QC = torch.ones(length, seen, dtype=torch.bool, device=query.device)
        mask_QC = everything_QC.tril(seen - length).triu(seen - length + 1 - window)
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask_QC, dropout_p=dropout, is_causal=mask_QC is None, scale=scaling, enable_gqa=True
    )


def _flash(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], prefix_length: int, scaling: float | None, window: int | None
) -> Tensor:
    """The same in one kernel, which takes all rows at once and lines up the end of each row with the end of what it sees."""
    seen = [lengths[0], *(prefix_length + length for length in lengths[1:])]
    if prefix_length:
        key, value = (torch.cat(list(_seen(states, lengths, prefix_length)), dim=2) for states in (key, value))
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))  # [T, H, D]
    ends, seen_ends = (torch.tensor([0, *accumulate(each)], dtype=torch.int32, device=query.device) for each in (lengths, seen))
    attended = varlen_attn(
        query,
        key,
        value,
        ends,
        seen_ends,
        max(lengths),
        max(seen),
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=True,
    )
    assert isinstance(attended, Tensor)
    return attended[None]


def block_diagonal_mask(
    row_lengths: Sequence[int], prefix_length: int, dtype: torch.dtype, device: torch.device, window: int | None = None
) -> Tensor:
    """[1, 1, T, T] additive mask that says the same as ``attend_rows``, for architectures with an attention of their own."""
    lengths = torch.tensor([prefix_length, *row_lengths], device=device)
    row_T = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
    visible_TT = (row_T[:, None] == row_T[None, :]) | (row_T == 0)[None, :]
    starts_T = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    place_T = torch.arange(len(row_T), device=device) - starts_T + prefix_length * (row_T > 0)
    ahead_TT = place_T[:, None] - place_T[None, :]
    visible_TT &= (ahead_TT >= 0) & (ahead_TT < (len(row_T) if window is None else window))
    return torch.zeros_like(visible_TT, dtype=dtype).masked_fill(~visible_TT, torch.finfo(dtype).min)[None, None]
