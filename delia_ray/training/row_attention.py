"""Attention of packed rows on a CPU: rows of about one length in one product, instead of some thirty small steps for each.

Torch's own kernels take up to twice as long there (docs/training_profile.md): one multiplies in float32, the other in small tiles.
Legend: H query heads, K key heads, G query heads of a key head, T tokens of a pack, P tokens of its prefix, B rows of a bundle,
L tokens of its longest row, C tokens that a row sees (P + L), D head size, N states that are moved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_SCORES = 2**19
"""Scores of a bundle, which a core's cache holds."""
_KEPT_SCORES = 2**21
"""A longer row's weights are computed again for the backward pass: they grow with its square."""
_FILLED = 0.5
"""The shortest row of a bundle has at least this share of the longest one's tokens; the rest is padding."""


@dataclass(frozen=True)
class _Bundle:
    """Rows that attend together, each followed by padding, which is ahead of all its tokens and so seen by none.

    Attributes:
        rows, prefix, length: B, P and L.
        queries: [B * H * L] where in the pack's [T * H] states each of the bundle's comes from; padding repeats the row's last token.
        keys: [B * K * C] the same for keys and values.
        padding: [N] which of ``queries`` are padding.
    """

    rows: int
    prefix: int
    length: int
    queries: Tensor
    keys: Tensor
    padding: Tensor


@dataclass(frozen=True)
class _Plan:
    """How a pack attends.

    Attributes:
        queries_back: [T * H] where each of the pack's states stands in those of all bundles, one after the other.
        keys_back: [T * K] the same for keys and values.
    """

    bundles: tuple[_Bundle, ...]
    queries_back: Tensor
    keys_back: Tensor


def _groups(row_lengths: Sequence[int], prefix: int, heads: int) -> list[list[int]]:
    """Lengths of the rows of each bundle, in the pack's order: it is dealt its longest first (packing.py)."""
    groups: list[list[int]] = []
    for length in row_lengths:
        if groups and _fits(length, groups[-1][0], heads * (len(groups[-1]) + 1), prefix):
            groups[-1].append(length)
        else:
            groups.append([length])
    return groups


def _fits(length: int, longest: int, squares: int, prefix: int) -> bool:
    return _FILLED * longest <= length <= longest and squares * longest * (prefix + longest) <= _SCORES


@lru_cache(maxsize=16)
def _plan(row_lengths: tuple[int, ...], prefix: int, heads: int, key_heads: int) -> _Plan:
    """The pack's prefix is a bundle of its own, the first; all layers of a step share one plan."""
    parts = [(0, [prefix], 0)] if prefix else []
    start = prefix
    for lengths in _groups(row_lengths, prefix, heads):
        parts.append((start, lengths, prefix))
        start += sum(lengths)
    bundles, queries_back, keys_back = list[_Bundle](), list[Tensor](), list[Tensor]()
    moved_queries = moved_keys = 0
    for first, lengths, before in parts:
        token_BC, own_BL = _places(first, torch.tensor(lengths), before)
        queries, keys = _states(token_BC[:, before:], heads), _states(token_BC, key_heads)
        is_own_BHL = own_BL[:, None].expand(-1, heads, -1)
        is_own_BKC = torch.cat([own_BL.new_zeros(len(lengths), before), own_BL], 1)[:, None].expand(-1, key_heads, -1)
        queries_back.append(_way_back(is_own_BHL) + moved_queries)
        keys_back.append(_way_back(is_own_BKC) + moved_keys)
        bundles.append(_Bundle(len(lengths), before, max(lengths), queries, keys, (~is_own_BHL).flatten().nonzero().flatten()))
        moved_queries, moved_keys = moved_queries + len(queries), moved_keys + len(keys)
    return _Plan(tuple(bundles), torch.cat(queries_back), torch.cat(keys_back))


def _places(first: int, length_B: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
    """[B, C] the token of the pack at each place, and [B, L] whether it is the row's own, for rows that start at token ``first``."""
    start_B = first + length_B.cumsum(0) - length_B
    place_L = torch.arange(int(length_B.max()))
    token_BL = start_B[:, None] + torch.minimum(place_L, length_B[:, None] - 1)
    prefix_BP = torch.arange(prefix).expand(len(length_B), -1)
    return torch.cat([prefix_BP, token_BL], 1), place_L < length_B[:, None]


def _states(token_BC: Tensor, heads: int) -> Tensor:
    """[B * heads * C] which of the pack's [T * heads] states stand there."""
    return (token_BC[:, None] * heads + torch.arange(heads)[:, None]).flatten()


def _way_back(is_own_BHC: Tensor) -> Tensor:
    """[tokens * heads] the places of the rows' own states, token by token."""
    place_BHC = torch.arange(is_own_BHC.numel()).view(is_own_BHC.shape)
    return place_BHC.transpose(1, 2)[is_own_BHC[:, 0]].flatten()


def attend_together(
    query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, row_lengths: Sequence[int], prefix: int, scaling: float, window: int | None
) -> Tensor:
    """[H, T, D] attention output, causal within each row, whose tokens also see the pack's ``prefix`` first ones.

    Args:
        window: how many tokens back a token sees, itself included; None is without limit.
    """
    plan = _plan(tuple(row_lengths), prefix, len(query_HTD), len(key_KTD))
    return _Attention.apply(query_HTD, key_KTD, value_KTD, plan, scaling, window)


class _Attention(torch.autograd.Function):
    """Two products and a softmax a bundle; the products are in the states' precision, the softmax in float32."""

    @staticmethod
    def forward(ctx: Any, query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, plan: _Plan, scaling: float, window: int | None) -> Tensor:
        queries, keys, values = (_rows(states) for states in (query_HTD, key_KTD, value_KTD))
        attended, kept = list[Tensor](), list[Tensor | None]()
        for bundle in plan.bundles:
            batch = bundle.rows * len(key_KTD)
            query = queries.index_select(0, bundle.queries).view(batch, -1, query_HTD.shape[-1])
            key, value = (states.index_select(0, bundle.keys).view(batch, -1, query.shape[-1]) for states in (keys, values))
            weights = _weights(query, key, bundle.length, scaling, window)
            attended.append((weights @ value).flatten(0, 1))
            kept += [query, key, value, weights if weights.numel() <= _KEPT_SCORES else None]
        ctx.save_for_backward(*kept)
        ctx.plan, ctx.key_heads, ctx.scaling, ctx.window = plan, len(key_KTD), scaling, window
        return _put_back(attended, plan.queries_back, query_HTD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        plan, kept, (grad_HTD,) = ctx.plan, ctx.saved_tensors, grad_outputs
        grads, query_grads, key_grads, value_grads = _rows(grad_HTD), list[Tensor](), list[Tensor](), list[Tensor]()
        for number, bundle in enumerate(plan.bundles):
            query, key, value, weights = kept[4 * number : 4 * number + 4]
            weights = _weights(query, key, bundle.length, ctx.scaling, ctx.window) if weights is None else weights
            grad = grads.index_select(0, bundle.queries).index_fill_(0, bundle.padding, 0).view_as(query)
            scores_grad = torch.ops.aten._softmax_backward_data(grad @ value.mT, weights, -1, weights.dtype)
            query_grads.append((scores_grad @ key).flatten(0, 1))
            key_grads.append((scores_grad.mT @ query).flatten(0, 1))
            value_grads.append((weights.mT @ grad).flatten(0, 1))
        query_grad = _put_back(query_grads, plan.queries_back, grad_HTD).mul_(ctx.scaling)
        key_grad, value_grad = (_shared(moved, plan, ctx.key_heads) for moved in (key_grads, value_grads))
        return query_grad, key_grad.mul_(ctx.scaling), value_grad, None, None, None


def _rows(states_HTD: Tensor) -> Tensor:
    """[T * H, D]; no copy of what a model's projections give, which is token by token."""
    return states_HTD.transpose(0, 1).reshape(-1, states_HTD.shape[-1])


def _put_back(moved: list[Tensor], back: Tensor, like_HTD: Tensor) -> Tensor:
    """[H, T, D] states of the pack from those of all bundles."""
    return torch.cat(moved).index_select(0, back).view(-1, len(like_HTD), like_HTD.shape[-1]).transpose(0, 1)


def _shared(moved: list[Tensor], plan: _Plan, heads: int) -> Tensor:
    """[K, T, D] gradient of keys or values: each row's own, and the prefix's from all rows, summed in float32."""
    size = moved[0].shape[-1]
    states_TKD = torch.cat(moved).index_select(0, plan.keys_back).view(-1, heads, size)
    if prefix := plan.bundles[-1].prefix:
        own_KPD = states_TKD[:prefix].transpose(0, 1)
        later = [part.view(bundle.rows, heads, -1, size)[:, :, :prefix] for bundle, part in zip(plan.bundles, moved, strict=True)][1:]
        own_KPD.copy_(sum((part.sum(0, dtype=torch.float32) for part in later), own_KPD.float()))
    return states_TKD.transpose(0, 1)


def _weights(query: Tensor, key: Tensor, length: int, scaling: float, window: int | None) -> Tensor:
    """[B * K, G * L, C] softmax of the scores, zero where a token does not see.

    torch's softmax of bfloat16 takes half as long again as float32's and both conversions.
    """
    seen = key.shape[1]
    unseen = _unseen(1 << (seen - 1).bit_length(), window, query.dtype)[seen - length : seen, :seen]
    groups = query.shape[1] // length
    scores = torch.baddbmm(unseen.repeat(groups, 1), query, key.mT, alpha=scaling)
    return torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)


@lru_cache(maxsize=16)
def _unseen(size: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """[size, size] minus infinity where a token is ahead, or further back than the window.

    Every bundle of every layer takes a corner of one; sizes are powers of two, so that few are kept.
    """
    visible = torch.ones(size, size, dtype=torch.bool).tril().triu(1 - (size if window is None else window))
    return torch.zeros(size, size, dtype=dtype).masked_fill(~visible, -torch.inf)
