"""Rows side by side in one sequence, none able to see another.

Legend: T tokens of a pack, S learnt tokens of a pack.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delia_ray.training.tokens import TokenisedRow

GROUPS = ("task", "diverse")


@dataclass(frozen=True)
class Pack:
    """One forward pass."""

    row_lengths: tuple[int, ...]
    """Tokens of each row; attention stays inside a row."""
    ids_T: NDArray[np.int64]
    positions_T: NDArray[np.int64]
    """Counts from 0 again at each row."""
    predicts_S: NDArray[np.int64]
    """Positions whose *next* token is learnt."""
    targets_S: NDArray[np.int64]
    """Those next tokens."""
    groups_S: NDArray[np.int64]
    """Index into ``GROUPS``."""
    kinds_S: NDArray[np.int64]
    """Index into ``tokens.KINDS``."""


def pack(rows: Sequence[TokenisedRow]) -> Pack:
    """``rows`` end to end."""
    lengths = [len(row.ids) for row in rows]
    ids_T = np.concatenate([np.asarray(row.ids, dtype=np.int64) for row in rows])
    kinds_T = np.concatenate([np.asarray(row.kinds, dtype=np.int64) for row in rows])
    groups_T = np.repeat([GROUPS.index(row.group) for row in rows], lengths)
    positions_T = np.concatenate([np.arange(length) for length in lengths])
    learnt_S = np.flatnonzero((kinds_T > 0) & (positions_T > 0))
    return Pack(tuple(lengths), ids_T, positions_T, learnt_S - 1, ids_T[learnt_S], groups_T[learnt_S], kinds_T[learnt_S])


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
