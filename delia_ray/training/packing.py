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


def pack(rows: Sequence[TokenisedRow]) -> Pack:
    """``rows`` end to end."""
    ids, positions, predicts, targets, groups = [], [], [], [], []
    start = 0
    for tokenised in rows:
        length = len(tokenised.ids)
        learnt = [t for t in range(1, length) if tokenised.learnt[t]]
        ids += tokenised.ids
        positions += range(length)
        predicts += [start + t - 1 for t in learnt]
        targets += [tokenised.ids[t] for t in learnt]
        groups += [GROUPS.index(tokenised.group)] * len(learnt)
        start += length
    columns = (np.asarray(column, dtype=np.int64) for column in (ids, positions, predicts, targets, groups))
    return Pack(tuple(len(row.ids) for row in rows), *columns)


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
