"""Variable-length attention over packed rows: each token attends to the pack's prefix and to the earlier tokens of its own row.

No mask over the whole pack is needed, so the cost grows with the rows' lengths and not with the square of the pack's.
Legend: H query heads, K key heads, T tokens of a pack, Q tokens of a row, C its keys (the prefix and Q), D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention


class MissingRowLengthsError(RuntimeError):
    """An architecture's layers do not pass the arguments of the forward pass on to their attention."""


@dataclass(frozen=True)
class VarlenMetadata:
    """Arguments of torch's variable-length kernel, built once a pack for all layers."""

    cu_seqlens_q: Tensor
    """[rows + 1] int32: where the queries of each row begin, and their end."""
    cu_seqlens_k: Tensor
    """The same of the keys, with the prefix in front of each row."""
    max_q: int
    max_k: int


@dataclass(frozen=True)
class PackedRows:
    """How a pack is divided into rows."""

    row_lengths: Sequence[int]
    """Tokens of each row without the prefix; with it they add up to T."""
    prefix_length: int = 0
    """Tokens before the first row, which every row attends to."""
    varlen: VarlenMetadata | None = None
    """Where the pack is on a GPU."""

    @property
    def lengths(self) -> list[int]:
        """Lengths of the prefix, if there is one, and of each row."""
        return [self.prefix_length, *self.row_lengths] if self.prefix_length else list(self.row_lengths)


class AttendRows(Protocol):
    """Attention of packed rows."""

    __name__: str

    def __call__(
        self, query_1HTD: Tensor, key_1KTD: Tensor, value_1KTD: Tensor, rows: PackedRows, scaling: float | None, window: int | None
    ) -> Tensor:
        """[1, T, H, D] attention output."""
        ...


def divide_pack(row_lengths: Sequence[int], prefix_length: int, device: torch.device) -> PackedRows:
    """Describe the rows of a pack, with what torch's variable-length kernel needs where ``device`` is a GPU."""
    rows = PackedRows(row_lengths, prefix_length)
    if device.type != "cuda":
        return rows
    return PackedRows(row_lengths, prefix_length, build_varlen_metadata(rows, device))


def build_varlen_metadata(rows: PackedRows, device: torch.device) -> VarlenMetadata:
    """Build the metadata; the kernel aligns the last query of each row with its last key."""
    lengths = rows.lengths
    key_lengths = [lengths[0], *(rows.prefix_length + length for length in lengths[1:])]
    starts_q, starts_k = (torch.tensor([0, *accumulate(each)], dtype=torch.int32, device=device) for each in (lengths, key_lengths))
    return VarlenMetadata(starts_q, starts_k, max(lengths), max(key_lengths))


def attend_packed_rows(
    module: nn.Module,
    query_1HTD: Tensor,
    key_1KTD: Tensor,
    value_1KTD: Tensor,
    attention_mask: None,
    *,
    attend: AttendRows,
    packed_rows: PackedRows | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    seen_windows: list[int | None] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """[1, T, H, D] attention output, causal within each row (an attention function of transformers' ``AttentionInterface``).

    Args:
        attend: computes it where nothing is dropped.
        packed_rows: given by ``build_packing_arguments`` to the model's forward pass.
        sliding_window: number of latest tokens that a token attends to, itself included; None is no limit.
        seen_windows: receives ``sliding_window`` of each call, to test what an architecture passes on.
    """
    if packed_rows is None:
        raise MissingRowLengthsError(f"{type(module).__name__} got no packed_rows")
    if seen_windows is not None:
        seen_windows.append(sliding_window)
    states = (query_1HTD, key_1KTD, value_1KTD)
    if dropout:
        return _attend_row_by_row(*states, packed_rows, scaling, dropout, sliding_window), None
    return attend(*states, packed_rows, scaling, sliding_window), None


def attend_by_library(
    query_1HTD: Tensor, key_1KTD: Tensor, value_1KTD: Tensor, rows: PackedRows, scaling: float | None, window: int | None
) -> Tensor:
    """[1, T, H, D] attention output by torch: its variable-length kernel on a GPU in half precision, row by row elsewhere."""
    states = (query_1HTD, key_1KTD, value_1KTD)
    if rows.varlen is not None and query_1HTD.dtype in (torch.float16, torch.bfloat16):
        return _attend_varlen(*states, rows, rows.varlen, scaling, window)
    return _attend_row_by_row(*states, rows, scaling, 0.0, window)


def _attend_row_by_row(
    query: Tensor, key: Tensor, value: Tensor, rows: PackedRows, scaling: float | None, dropout: float, window: int | None
) -> Tensor:
    queries, (keys, values) = (
        query.split(rows.lengths, dim=2),
        (_split_keys(each, rows.lengths, rows.prefix_length) for each in (key, value)),
    )
    attended = [_attend_row(*row, scaling, dropout, window) for row in zip(queries, keys, values, strict=True)]
    return torch.cat(attended, dim=2).transpose(1, 2)


def _split_keys(states_1KTD: Tensor, lengths: Sequence[int], prefix_length: int) -> Sequence[Tensor]:
    """Split keys or values into [1, K, C, D] for the prefix, if there is one, and for each row, with the prefix in front."""
    parts = states_1KTD.split(list(lengths), dim=2)
    return [parts[0], *(torch.cat([parts[0], row], dim=2) for row in parts[1:])] if prefix_length else parts


def _attend_row(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float, sliding_window: int | None) -> Tensor:
    queries, keys = query.shape[2], key.shape[2]
    window = keys if sliding_window is None else min(sliding_window, keys)
    mask_QC = None
    if window < keys or queries < keys:
        ones_QC = torch.ones(queries, keys, dtype=torch.bool, device=query.device)
        mask_QC = ones_QC.tril(keys - queries).triu(keys - queries + 1 - window)
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask_QC, dropout_p=dropout, is_causal=mask_QC is None, scale=scaling, enable_gqa=True
    )


def _attend_varlen(
    query: Tensor, key: Tensor, value: Tensor, rows: PackedRows, varlen: VarlenMetadata, scaling: float | None, window: int | None
) -> Tensor:
    if rows.prefix_length:
        key, value = (torch.cat(list(_split_keys(states, rows.lengths, rows.prefix_length)), dim=2) for states in (key, value))
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))  # [T, H, D]
    attended = varlen_attn(
        query,
        key,
        value,
        varlen.cu_seqlens_q,
        varlen.cu_seqlens_k,
        varlen.max_q,
        varlen.max_k,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=True,
    )
    assert isinstance(attended, Tensor)
    return attended[None]


def block_diagonal_mask(
    row_lengths: Sequence[int], prefix_length: int, dtype: torch.dtype, device: torch.device, window: int | None = None
) -> Tensor:
    """[1, 1, T, T] additive block-diagonal causal mask equal to ``attend_packed_rows``, for architectures with their own attention."""
    lengths = torch.tensor([prefix_length, *row_lengths], device=device)
    tokens = prefix_length + sum(row_lengths)
    row_T = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths, output_size=tokens)
    allowed_TT = (row_T[:, None] == row_T[None, :]) | (row_T == 0)[None, :]
    starts_T = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths, output_size=tokens)
    position_T = torch.arange(len(row_T), device=device) - starts_T + prefix_length * (row_T > 0)
    distance_TT = position_T[:, None] - position_T[None, :]
    allowed_TT &= (distance_TT >= 0) & (distance_TT < (len(row_T) if window is None else window))
    return torch.zeros_like(allowed_TT, dtype=dtype).masked_fill(~allowed_TT, torch.finfo(dtype).min)[None, None]
