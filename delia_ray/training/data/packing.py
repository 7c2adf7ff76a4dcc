"""Sequence packing: rows concatenated into one sequence without seeing each other, with the prefix that all of them share only once.

The chat template of a model begins every prompt with the same words. Attention is causal, so the states of those tokens, and the
gradients through them, are the same whether each row has its own copy or all rows attend to one.

Legend: P tokens of the prefix, T tokens of a pack, S supervised tokens of a pack.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delia_ray.training.data.tokens import TokenizedRow

GROUPS = ("task", "diverse")
NO_PREFIX: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Pack:
    """The packed rows of one forward pass, the micro-batch."""

    prefix_length: int
    """Tokens at the start that every row attends to."""
    row_lengths: tuple[int, ...]
    """Tokens of each row without the prefix; a row attends to the prefix and to itself."""
    ids_T: NDArray[np.int64]
    """Token ids."""
    positions_T: NDArray[np.int64]
    """Position ids, which start again after the prefix at each row."""
    predicts_S: NDArray[np.int64]
    """Index in the pack of the token whose logits predict each supervised token: the previous one of its row, or the prefix's last."""
    targets_S: NDArray[np.int64]
    """Ids of the supervised tokens."""
    groups_S: NDArray[np.int64]
    """Index into ``GROUPS``."""
    kinds_S: NDArray[np.int64]
    """Index into ``tokens.KINDS``."""
    rows_S: NDArray[np.int64]
    """Index of the token's row in the pack."""


def packs_for_rank(rows: Sequence[TokenizedRow], rank: int, world: int, max_tokens: int, *, stochastic: bool) -> list[Pack]:
    """Pack the rows of a step and return the packs of worker ``rank``; every worker gets as many, so that their collectives match.

    Args:
        max_tokens: of a pack; 0 gives each row a pack of its own.
        stochastic: whether dropout or noise differs by token, so that rows may not share a prefix.
    """
    prefix_P = NO_PREFIX if stochastic else shared_prefix(rows)
    suffixes = [row.drop_prefix(len(prefix_P)) for row in rows]
    bins = [bin_pack(part, max_tokens - len(prefix_P)) for part in balance_by_tokens(suffixes, world)]
    packs = [pack(members, prefix_P) for members in bins[rank]]
    unsupervised = pack([TokenizedRow(rows[0].ids[:1], (0,), rows[0].group)])
    return packs + [unsupervised] * (max(map(len, bins)) - len(packs))


def shared_prefix(rows: Sequence[TokenizedRow]) -> NDArray[np.int64]:
    """[P] longest prefix of token ids that all ``rows`` share, none of them supervised; each row has at least one more token."""
    if len(rows) < 2:
        return NO_PREFIX
    longest = min(next(iter(np.flatnonzero(row.kinds)), len(row.ids) - 1) for row in rows)
    ids = np.array([row.ids[:longest] for row in rows], dtype=np.int64)
    differing = np.flatnonzero((ids != ids[0]).any(axis=0))
    return ids[0, : differing[0] if len(differing) else longest]


def pack(rows: Sequence[TokenizedRow], prefix_P: NDArray[np.int64] = NO_PREFIX) -> Pack:
    """Concatenate ``rows``, which are given without their shared prefix, after ``prefix_P``."""
    shared, lengths = len(prefix_P), [len(row.ids) for row in rows]
    ids_T = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in (prefix_P, *(row.ids for row in rows))])
    kinds_T = np.concatenate([np.zeros(shared, dtype=np.int64), *(np.asarray(row.kinds, dtype=np.int64) for row in rows)])
    groups_T = np.repeat([0, *(GROUPS.index(row.group) for row in rows)], [shared, *lengths])
    positions_T = np.concatenate([np.arange(shared), *(np.arange(shared, shared + length) for length in lengths)])
    supervised_S = np.flatnonzero((kinds_T > 0) & (positions_T > 0))
    predicts_S = np.where(positions_T[supervised_S] == shared, shared, supervised_S) - 1  # the prefix's last token predicts a row's first
    rows_S = np.repeat([0, *range(len(rows))], [shared, *lengths])[supervised_S]
    return Pack(
        shared, tuple(lengths), ids_T, positions_T, predicts_S, ids_T[supervised_S], groups_T[supervised_S], kinds_T[supervised_S], rows_S
    )


def single_rows(packed: Pack) -> list[Pack]:
    """Unpack ``packed`` into a pack per row, with its copy of the prefix; the supervised tokens keep their order."""
    if len(packed.row_lengths) == 1 and not packed.prefix_length:
        return [packed]
    shared, start, packs = packed.prefix_length, packed.prefix_length, list[Pack]()
    for row, length in enumerate(packed.row_lengths):
        in_row_S = packed.rows_S == row
        indices_T = np.r_[:shared, start : start + length]
        predicts_S = packed.predicts_S[in_row_S]
        predicts_S = np.where(predicts_S < shared, predicts_S, predicts_S - start + shared)
        targets_S, groups_S, kinds_S = (array[in_row_S] for array in (packed.targets_S, packed.groups_S, packed.kinds_S))
        zeros_S = np.zeros_like(predicts_S)
        packs.append(
            Pack(
                0,
                (shared + length,),
                packed.ids_T[indices_T],
                packed.positions_T[indices_T],
                predicts_S,
                targets_S,
                groups_S,
                kinds_S,
                zeros_S,
            )
        )
        start += length
    return packs


def balance_by_tokens(rows: Sequence[TokenizedRow], num_parts: int) -> list[list[TokenizedRow]]:
    """Split ``rows`` into parts with about equally many tokens: longest row first, each to the part with the fewest tokens.

    A step ends when its slowest worker does; with round-robin assignment one of two workers was idle for a sixth of the time.
    """
    parts: list[list[TokenizedRow]] = [[] for _ in range(num_parts)]
    tokens = [0] * num_parts
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        smallest = tokens.index(min(tokens))
        parts[smallest].append(row)
        tokens[smallest] += len(row.ids)
    return parts


def bin_pack(rows: Sequence[TokenizedRow], max_tokens: int) -> list[list[TokenizedRow]]:
    """Split ``rows`` into bins of at most ``max_tokens`` by first-fit decreasing; a longer row gets a bin of its own."""
    bins: list[tuple[int, list[TokenizedRow]]] = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        for index, (used, members) in enumerate(bins):
            if used + len(row.ids) <= max_tokens:
                bins[index] = (used + len(row.ids), [*members, row])
                break
        else:
            bins.append((len(row.ids), [row]))
    return [members for _, members in bins]
