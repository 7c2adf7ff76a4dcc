"""Attention of packed rows on a CPU: rows of about one length in one product, instead of some thirty small steps for each.

Torch's own kernels take up to twice as long there (docs/training.md): one multiplies in float32, the other in small tiles.
Legend: H query heads, K key heads, G query heads of a key head, T tokens of a pack, P tokens of its prefix, B rows of a bundle,
L tokens of its longest row, C tokens that a row sees (P + L), D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_SCORES = 2**19
"""Scores of a bundle, which a core's cache holds."""
_KEPT_SCORES = 2**21
"""A longer row's weights are computed again for the backward pass: they grow with its square."""
_FILLED = 0.8
"""The shortest row of a bundle has at least this share of the longest one's tokens; the rest is padding."""


@dataclass(frozen=True)
class _Run:
    """Rows of one length, side by side in the pack and in their bundle."""

    first: int
    rows: int
    start: int
    length: int

    def of(self, states_HTD: Tensor) -> Tensor:
        """[rows, H, length, D], a view of the pack's states."""
        return states_HTD[:, self.start : self.start + self.rows * self.length].unflatten(1, (self.rows, self.length)).transpose(0, 1)

    def within(self, padded_BHLD: Tensor) -> Tensor:
        """The same, a view of the bundle's."""
        return padded_BHLD[self.first : self.first + self.rows, :, : self.length]


@dataclass(frozen=True)
class _Bundle:
    """Rows that attend together, each followed by padding, which is ahead of all its tokens and so seen by none."""

    runs: tuple[_Run, ...]
    prefix: int

    @property
    def rows(self) -> int:
        return sum(run.rows for run in self.runs)

    @property
    def length(self) -> int:
        return self.runs[0].length

    def padded(self, states_HTD: Tensor, prefix: int) -> Tensor:
        """[B, H, prefix + L, D] states: the pack's first ``prefix`` before each row's own."""
        heads, _, size = states_HTD.shape
        padded = states_HTD.new_zeros(self.rows, heads, prefix + self.length, size)
        padded[:, :, :prefix] = states_HTD[:, :prefix]
        for run in self.runs:
            run.within(padded[:, :, prefix:]).copy_(run.of(states_HTD))
        return padded

    def put_back(self, padded_BHLD: Tensor, states_HTD: Tensor) -> None:
        """Write each row's own into the pack's."""
        for run in self.runs:
            run.of(states_HTD).copy_(run.within(padded_BHLD))


@lru_cache(maxsize=16)
def _bundles(row_lengths: tuple[int, ...], prefix: int, heads: int) -> tuple[_Bundle, ...]:
    """The pack's prefix, and its rows in their order: a pack is dealt its longest first (packing.py)."""
    bundles = [_Bundle((_Run(0, 1, 0, prefix),), 0)] if prefix else []
    start, runs = prefix, list[_Run]()
    for length in row_lengths:
        count = sum(run.rows for run in runs)
        if runs and not _fits(length, runs[0].length, heads * (count + 1), prefix):
            bundles.append(_Bundle(tuple(runs), prefix))
            count, runs = 0, []
        if runs and runs[-1].length == length:
            runs[-1] = replace(runs[-1], rows=runs[-1].rows + 1)
        else:
            runs.append(_Run(count, 1, start, length))
        start += length
    return (*bundles, _Bundle(tuple(runs), prefix))


def _fits(length: int, longest: int, squares: int, prefix: int) -> bool:
    return _FILLED * longest <= length <= longest and squares * longest * (prefix + longest) <= _SCORES


def attend_together(
    query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, row_lengths: Sequence[int], prefix: int, scaling: float, window: int | None
) -> Tensor:
    """[H, T, D] attention output, causal within each row, whose tokens also see the pack's ``prefix`` first ones.

    Args:
        window: how many tokens back a token sees, itself included; None is without limit.
    """
    bundles = _bundles(tuple(row_lengths), prefix, len(query_HTD))
    return _Attention.apply(query_HTD, key_KTD, value_KTD, bundles, scaling, window)


class _Attention(torch.autograd.Function):
    """Two products and a softmax a bundle, in the states' precision; the softmax's own sums are in float32."""

    @staticmethod
    def forward(
        ctx: Any, query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, bundles: Sequence[_Bundle], scaling: float, window: int | None
    ) -> Tensor:
        attended_HTD, kept = torch.empty_like(query_HTD), list[Tensor | None]()
        for bundle in bundles:
            query = bundle.padded(query_HTD, 0).mul_(scaling)
            key, value = (bundle.padded(states, bundle.prefix) for states in (key_KTD, value_KTD))
            weights = _weights(query, key, window)
            bundle.put_back((weights @ value.flatten(0, 1)).view_as(query), attended_HTD)
            kept += [query, key, value, weights if weights.numel() <= _KEPT_SCORES else None]
        ctx.save_for_backward(*kept)
        ctx.bundles, ctx.scaling, ctx.window, ctx.key_heads = bundles, scaling, window, len(key_KTD)
        return attended_HTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        attended_grad_HTD = grad_outputs[0]
        kept, query_grad_HTD = ctx.saved_tensors, torch.empty_like(attended_grad_HTD)
        key_grad, value_grad = (_SharedGradient(attended_grad_HTD, ctx.key_heads, ctx.bundles[-1].prefix) for _ in range(2))
        for number, bundle in enumerate(ctx.bundles):
            query, key, value, weights = kept[4 * number : 4 * number + 4]
            weights = _weights(query, key, ctx.window) if weights is None else weights
            grad = bundle.padded(attended_grad_HTD, 0).view(len(weights), -1, query.shape[-1])
            scores_grad = torch.ops.aten._softmax_backward_data(grad @ value.flatten(0, 1).mT, weights, -1, weights.dtype)
            bundle.put_back((scores_grad @ key.flatten(0, 1)).mul_(ctx.scaling).view_as(query), query_grad_HTD)
            key_grad.add(bundle, (scores_grad.mT @ query.view_as(grad)).view_as(key))
            value_grad.add(bundle, (weights.mT @ grad).view_as(value))
        return query_grad_HTD, key_grad.states(), value_grad.states(), None, None, None


class _SharedGradient:
    """The gradient of keys or values: each row's own, and the prefix's from all rows, summed in float32."""

    def __init__(self, like_HTD: Tensor, heads: int, prefix: int):
        _, tokens, size = like_HTD.shape
        self._states_KTD = like_HTD.new_empty(tokens, heads, size).transpose(0, 1)
        self._prefix_KPD = like_HTD.new_zeros(heads, prefix, size, dtype=torch.float32)

    def add(self, bundle: _Bundle, padded_BKCD: Tensor) -> None:
        bundle.put_back(padded_BKCD[:, :, bundle.prefix :], self._states_KTD)
        if bundle.prefix:
            self._prefix_KPD += padded_BKCD[:, :, : bundle.prefix].sum(0, dtype=torch.float32)

    def states(self) -> Tensor:
        """[K, T, D]"""
        self._states_KTD[:, : self._prefix_KPD.shape[1]] += self._prefix_KPD
        return self._states_KTD


def _weights(query_BHLD: Tensor, key_BKCD: Tensor, window: int | None) -> Tensor:
    """[B * K, G * L, C] softmax of the scores, zero where a token does not see."""
    rows, _, length, size = query_BHLD.shape
    groups, seen = key_BKCD.shape[1:3]
    scores = query_BHLD.view(rows * groups, -1, size) @ key_BKCD.flatten(0, 1).mT
    unseen = _unseen(1 << (seen - 1).bit_length(), window, scores.dtype)[seen - length : seen, :seen]
    scores.view(-1, length, seen).add_(unseen)
    return scores.softmax(-1)


@lru_cache(maxsize=16)
def _unseen(size: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """[size, size] minus infinity where a token is ahead, or further back than the window.

    Every bundle of every layer takes a corner of one; sizes are powers of two, so that few are kept.
    """
    visible = torch.ones(size, size, dtype=torch.bool).tril().triu(1 - (size if window is None else window))
    return torch.zeros(size, size, dtype=dtype).masked_fill(~visible, -torch.inf)
