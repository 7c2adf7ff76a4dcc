"""Attention over packed rows on a CPU: rows of similar length are gathered into padded batches, each with a few matrix products.

torch's own kernels take up to twice as long on a CPU (docs/training_profile.md): one multiplies in float32, the other in small tiles.
Legend: H query heads, K key heads, G query heads per key head, T tokens of a pack, P tokens of its prefix, B rows of a padded batch,
L tokens of its longest row, C keys of a row (P + L), D head size, N gathered states.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from delia_ray.training.kernels.packed_attention import PackedRows
from delia_ray.upstream.torch_internals import softmax_backward, unset_fake_temporarily

_MAX_BATCH_SCORES = 2**19
"""Attention scores of a padded batch: as many as a core's cache holds."""
_MAX_SAVED_SCORES = 2**21
"""Attention weights above this size are recomputed in the backward pass: they grow with the square of a row's length."""
_MIN_FILL = 0.5
"""The shortest row of a padded batch has at least this fraction of the longest one's tokens; the rest is padding."""


@dataclass(frozen=True)
class _PaddedBatch:
    """Indices that gather rows of a pack into a padded batch; padding follows a row's own tokens, so causal attention hides it from them.

    Attributes:
        rows, prefix, length: B, P and L.
        query_index: [B * H * L] index into the pack's [T * H] states of each query; padding repeats the row's last token.
        key_index: [B * K * C] index into the pack's [T * K] states of each key and value.
        padding: [N] which entries of ``query_index`` are padding.
    """

    rows: int
    prefix: int
    length: int
    query_index: Tensor
    key_index: Tensor
    padding: Tensor


@dataclass(frozen=True)
class _Plan:
    """The padded batches of a pack, and the indices that put their states back in the pack's order.

    Attributes:
        query_inverse: [T * H] index of each of the pack's states in the concatenated states of all batches.
        key_inverse: [T * K] the same for keys and values.
    """

    batches: tuple[_PaddedBatch, ...]
    query_inverse: Tensor
    key_inverse: Tensor


def _group_by_length(row_lengths: Sequence[int], prefix: int, heads: int) -> list[list[int]]:
    """Group the rows, in the pack's order, into batches, and return their lengths; packing puts the longest rows first."""
    groups: list[list[int]] = []
    for length in row_lengths:
        if groups and _fits(length, groups[-1][0], heads * (len(groups[-1]) + 1), prefix):
            groups[-1].append(length)
        else:
            groups.append([length])
    return groups


def _fits(length: int, longest: int, matrices: int, prefix: int) -> bool:
    """Whether a row of ``length`` fits a batch of rows up to ``longest``, which then has ``matrices`` score matrices."""
    return _MIN_FILL * longest <= length <= longest and matrices * longest * (prefix + longest) <= _MAX_BATCH_SCORES


@lru_cache(maxsize=16)
@unset_fake_temporarily()  # what is cached has data, also where memory is estimated on tensors without any
def _build_plan(row_lengths: tuple[int, ...], prefix: int, heads: int, key_heads: int) -> _Plan:
    """Build the plan of a pack, whose prefix is a batch of its own, the first; all layers of a step share one plan."""
    groups = [(0, [prefix], 0)] if prefix else []
    start = prefix
    for lengths in _group_by_length(row_lengths, prefix, heads):
        groups.append((start, lengths, prefix))
        start += sum(lengths)
    batches, query_inverse, key_inverse = list[_PaddedBatch](), list[Tensor](), list[Tensor]()
    num_queries = num_keys = 0
    for first, lengths, shared in groups:
        token_BC, is_own_BL = _build_token_index(first, torch.tensor(lengths), shared)
        query_index, key_index = _build_state_index(token_BC[:, shared:], heads), _build_state_index(token_BC, key_heads)
        is_own_BHL = is_own_BL[:, None].expand(-1, heads, -1)
        is_own_BKC = torch.cat([is_own_BL.new_zeros(len(lengths), shared), is_own_BL], 1)[:, None].expand(-1, key_heads, -1)
        query_inverse.append(_build_inverse_index(is_own_BHL) + num_queries)
        key_inverse.append(_build_inverse_index(is_own_BKC) + num_keys)
        padding = (~is_own_BHL).flatten().nonzero().flatten()
        batches.append(_PaddedBatch(len(lengths), shared, max(lengths), query_index, key_index, padding))
        num_queries, num_keys = num_queries + len(query_index), num_keys + len(key_index)
    return _Plan(tuple(batches), torch.cat(query_inverse), torch.cat(key_inverse))


def _build_token_index(first: int, length_B: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
    """Return the [B, C] index in the pack of each key's token, and [B, L] whether it is the row's own, for rows from token ``first`` on."""
    start_B = first + length_B.cumsum(0) - length_B
    position_L = torch.arange(int(length_B.max()))
    token_BL = start_B[:, None] + torch.minimum(position_L, length_B[:, None] - 1)
    prefix_BP = torch.arange(prefix).expand(len(length_B), -1)
    return torch.cat([prefix_BP, token_BL], 1), position_L < length_B[:, None]


def _build_state_index(token_BC: Tensor, heads: int) -> Tensor:
    """[B * heads * C] index into the pack's [T * heads] states of each token and head."""
    return (token_BC[:, None] * heads + torch.arange(heads)[:, None]).flatten()


def _build_inverse_index(is_own_BHC: Tensor) -> Tensor:
    """[tokens * heads] index in the batch of the rows' own states, token by token."""
    index_BHC = torch.arange(is_own_BHC.numel()).view(is_own_BHC.shape)
    return index_BHC.transpose(1, 2)[is_own_BHC[:, 0]].flatten()


def attend_in_batches(
    query_1HTD: Tensor, key_1KTD: Tensor, value_1KTD: Tensor, rows: PackedRows, scaling: float | None, window: int | None
) -> Tensor:
    """[1, T, H, D] attention output, causal within each row, whose tokens also attend to the pack's prefix.

    Args:
        window: number of latest tokens that a token attends to, itself included; None is no limit.
    """
    query, key, value = (states.squeeze(0) for states in (query_1HTD, key_1KTD, value_1KTD))
    plan = _build_plan(tuple(rows.row_lengths), rows.prefix_length, len(query), len(key))
    attended_HTD: Tensor = _Attention.apply(query, key, value, plan, query.shape[-1] ** -0.5 if scaling is None else scaling, window)
    return attended_HTD.transpose(0, 1).unsqueeze(0)


class _Attention(torch.autograd.Function):
    """Two products and a softmax per padded batch: the products in the states' precision, the softmax in float32."""

    @staticmethod
    def forward(ctx: Any, query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, plan: _Plan, scaling: float, window: int | None) -> Tensor:
        queries, keys, values = (_flatten_states(states) for states in (query_HTD, key_KTD, value_KTD))
        attended, saved = list[Tensor](), list[Tensor | None]()
        for batch in plan.batches:
            matrices = batch.rows * len(key_KTD)
            query = queries.index_select(0, batch.query_index).view(matrices, -1, query_HTD.shape[-1])
            key, value = (states.index_select(0, batch.key_index).view(matrices, -1, query.shape[-1]) for states in (keys, values))
            weights = _compute_weights(query, key, batch.length, scaling, window)
            attended.append((weights @ value).flatten(0, 1))
            saved += [query, key, value, weights if weights.numel() <= _MAX_SAVED_SCORES else None]
        ctx.save_for_backward(*saved)
        ctx.plan, ctx.key_heads, ctx.scaling, ctx.window = plan, len(key_KTD), scaling, window
        return _restore_order(attended, plan.query_inverse, query_HTD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        plan, saved, (grad_HTD,) = ctx.plan, ctx.saved_tensors, grad_outputs
        grads, query_grads, key_grads, value_grads = _flatten_states(grad_HTD), list[Tensor](), list[Tensor](), list[Tensor]()
        for number, batch in enumerate(plan.batches):
            query, key, value, weights = saved[4 * number : 4 * number + 4]
            weights = _compute_weights(query, key, batch.length, ctx.scaling, ctx.window) if weights is None else weights
            grad = grads.index_select(0, batch.query_index).index_fill_(0, batch.padding, 0).view_as(query)
            scores_grad = softmax_backward(grad @ value.mT, weights)
            query_grads.append((scores_grad @ key).flatten(0, 1))
            key_grads.append((scores_grad.mT @ query).flatten(0, 1))
            value_grads.append((weights.mT @ grad).flatten(0, 1))
        query_grad = _restore_order(query_grads, plan.query_inverse, grad_HTD).mul_(ctx.scaling)
        key_grad, value_grad = (_sum_key_gradients(parts, plan, ctx.key_heads) for parts in (key_grads, value_grads))
        return query_grad, key_grad.mul_(ctx.scaling), value_grad, None, None, None


def _flatten_states(states_HTD: Tensor) -> Tensor:
    """[T * H, D] states; no copy where they are stored token by token, as a model's projections do."""
    return states_HTD.transpose(0, 1).reshape(-1, states_HTD.shape[-1])


def _restore_order(states: list[Tensor], inverse: Tensor, like_HTD: Tensor) -> Tensor:
    """[H, T, D] states in the pack's order, from those of all padded batches."""
    return torch.cat(states).index_select(0, inverse).view(-1, len(like_HTD), like_HTD.shape[-1]).transpose(0, 1)


def _sum_key_gradients(gradients: list[Tensor], plan: _Plan, heads: int) -> Tensor:
    """[K, T, D] gradient of keys or values: each row's own, and the prefix's summed over all rows in float32."""
    size = gradients[0].shape[-1]
    gradient_TKD = torch.cat(gradients).index_select(0, plan.key_inverse).view(-1, heads, size)
    if prefix := plan.batches[-1].prefix:
        prefix_KPD = gradient_TKD[:prefix].transpose(0, 1)
        by_batch = zip(plan.batches[1:], gradients[1:], strict=True)
        from_rows = [gradient.view(batch.rows, heads, -1, size)[:, :, :prefix] for batch, gradient in by_batch]
        prefix_KPD.copy_(sum((gradient.sum(0, dtype=torch.float32) for gradient in from_rows), prefix_KPD.float()))
    return gradient_TKD.transpose(0, 1)


def _compute_weights(query: Tensor, key: Tensor, length: int, scaling: float, window: int | None) -> Tensor:
    """[B * K, G * L, C] attention weights: softmax of the scores, zero where a token does not attend.

    torch's bfloat16 softmax takes half as long again as a float32 softmax with both conversions.
    """
    keys = key.shape[1]
    mask = _build_causal_mask(1 << (keys - 1).bit_length(), window, query.dtype)[keys - length : keys, :keys]
    groups = query.shape[1] // length
    scores = torch.baddbmm(mask.repeat(groups, 1), query, key.mT, alpha=scaling)
    return torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)


@lru_cache(maxsize=16)
@unset_fake_temporarily()
def _build_causal_mask(size: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """[size, size] additive mask: minus infinity at later tokens and at those before the window.

    Every padded batch of every layer takes a corner of one; sizes are powers of two, so that few are cached.
    """
    allowed = torch.ones(size, size, dtype=torch.bool).tril().triu(1 - (size if window is None else window))
    return torch.zeros(size, size, dtype=dtype).masked_fill(~allowed, -torch.inf)
