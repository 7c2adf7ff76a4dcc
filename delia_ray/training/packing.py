"""Rows side by side in one sequence, none able to see another; what they all begin with stands there once.

A chat template opens every prompt of a model with the same words. Attention is causal, so those tokens' states, and the
gradients through them, are the same whether each row has them to itself or all rows see one copy.

Legend: P tokens of the prefix, T tokens of a pack, S learnt tokens of a pack.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delia_ray.training.tokens import TokenisedRow

GROUPS = ("task", "diverse")
NO_PREFIX: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Pack:
    """One forward pass."""

    prefix_length: int
    """Tokens at the start that belong to every row."""
    row_lengths: tuple[int, ...]
    """Tokens of each row, the prefix apart; a row sees the prefix and itself."""
    ids_T: NDArray[np.int64]
    positions_T: NDArray[np.int64]
    """Counts from the prefix's end again at each row."""
    predicts_S: NDArray[np.int64]
    """Positions that predict a learnt token: the one before it in its row, or the prefix's last."""
    targets_S: NDArray[np.int64]
    """Those next tokens."""
    groups_S: NDArray[np.int64]
    """Index into ``GROUPS``."""
    kinds_S: NDArray[np.int64]
    """Index into ``tokens.KINDS``."""
    rows_S: NDArray[np.int64]
    """Index of the row that the token stands in."""


def shared_prefix(rows: Sequence[TokenisedRow]) -> NDArray[np.int64]:
    """[P] token ids that all ``rows`` begin with and that none learns; each row has at least one more."""
    if len(rows) < 2:
        return NO_PREFIX
    common = min(next(iter(np.flatnonzero(row.kinds)), len(row.ids) - 1) for row in rows)
    ids = np.array([row.ids[:common] for row in rows], dtype=np.int64)
    differs = np.flatnonzero((ids != ids[0]).any(axis=0))
    return ids[0, : differs[0] if len(differs) else common]


def pack(rows: Sequence[TokenisedRow], prefix_P: NDArray[np.int64] = NO_PREFIX) -> Pack:
    """``rows`` end to end, after a prefix that they are given without."""
    shared, lengths = len(prefix_P), [len(row.ids) for row in rows]
    ids_T = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in (prefix_P, *(row.ids for row in rows))])
    kinds_T = np.concatenate([np.zeros(shared, dtype=np.int64), *(np.asarray(row.kinds, dtype=np.int64) for row in rows)])
    groups_T = np.repeat([0, *(GROUPS.index(row.group) for row in rows)], [shared, *lengths])
    positions_T = np.concatenate([np.arange(shared), *(np.arange(shared, shared + length) for length in lengths)])
    learnt_S = np.flatnonzero((kinds_T > 0) & (positions_T > 0))
    predicts_S = np.where(positions_T[learnt_S] == shared, shared, learnt_S) - 1  # a row's first token follows the prefix's last
    rows_S = np.repeat([0, *range(len(rows))], [shared, *lengths])[learnt_S]
    return Pack(shared, tuple(lengths), ids_T, positions_T, predicts_S, ids_T[learnt_S], groups_T[learnt_S], kinds_T[learnt_S], rows_S)


def single_rows(packed: Pack) -> list[Pack]:
    """Each row of ``packed`` as a pack of its own, the prefix in front of it; their learnt tokens follow each other as in ``packed``."""
    if len(packed.row_lengths) == 1 and not packed.prefix_length:
        return [packed]
    shared, start, parts = packed.prefix_length, packed.prefix_length, list[Pack]()
    for row, length in enumerate(packed.row_lengths):
        own_S = packed.rows_S == row
        places_T = np.r_[:shared, start : start + length]
        predicts_S = packed.predicts_S[own_S]
        predicts_S = np.where(predicts_S < shared, predicts_S, predicts_S - start + shared)
        targets_S, groups_S, kinds_S = (each[own_S] for each in (packed.targets_S, packed.groups_S, packed.kinds_S))
        zeros_S = np.zeros_like(predicts_S)
        parts.append(
            Pack(
                0,
                (shared + length,),
                packed.ids_T[places_T],
                packed.positions_T[places_T],
                predicts_S,
                targets_S,
                groups_S,
                kinds_S,
                zeros_S,
            )
        )
        start += length
    return parts


def deal_out(rows: Sequence[TokenisedRow], hands: int) -> list[list[TokenisedRow]]:
    """``rows`` in ``hands`` parts with about as many tokens each: the longest first, always to the part that has least.

    A step ends when its slowest worker does; with rows dealt out in turn one of two workers idled a sixth of the time.
    """
    parts: list[list[TokenisedRow]] = [[] for _ in range(hands)]
    tokens = [0] * hands
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        least = tokens.index(min(tokens))
        parts[least].append(row)
        tokens[least] += len(row.ids)
    return parts


def split_by_tokens(rows: Sequence[TokenisedRow], max_tokens: int) -> list[list[TokenisedRow]]:
    """First-fit decreasing bins of at most ``max_tokens``; a longer row gets a bin of its own."""
    bins: list[tuple[int, list[TokenisedRow]]] = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        for index, (used, members) in enumerate(bins):
            if used + len(row.ids) <= max_tokens:
                bins[index] = (used + len(row.ids), [*members, row])
                break
        else:
            bins.append((len(row.ids), [row]))
    return [members for _, members in bins]
