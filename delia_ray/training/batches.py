"""Which rows make up which step: a function of the seed and of nothing else."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from delia_ray.records import keyed_int


def steps_for(task_rows: int, ratio: float, epochs: float, batch_rows: int) -> int:
    """Optimiser steps of ``epochs`` passes over ``task_rows * (1 + ratio)`` rows, rounded up."""
    rows = task_rows + int(ratio * task_rows)
    return max(1, -int(-epochs * rows // batch_rows))


class StepRows:
    """Row indices of each step, over as many epochs as the steps need.

    The first epoch keeps the mixture's own order; each later one is a shuffle of its own. Only the epoch at hand is held.

    Args:
        groups: [rows] ``task`` or ``diverse``, in the mixture's order.
        example_ids: gives the rows' ids in that order; called for epochs after the first.
        order: whether task and diverse rows are shuffled together or follow each other.
    """

    def __init__(
        self,
        groups: Sequence[str],
        example_ids: Callable[[], Sequence[str]],
        batch_rows: int,
        seed: int,
        order: Literal["shuffled", "task_first", "task_last"] = "shuffled",
    ):
        self._is_task = np.array([group == "task" for group in groups])
        self._example_ids = example_ids
        self._batch_rows = batch_rows
        self._seed = seed
        self._order = order
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def __call__(self, step: int) -> list[int]:
        """Indices of the rows of ``step`` (from 0), ``batch_rows`` of them."""
        first = step * self._batch_rows
        return [self._at(place) for place in range(first, first + self._batch_rows)]

    def ids(self, step: int) -> list[str]:
        """Example ids of the rows of ``step``."""
        known = self._example_ids()
        return [known[index] for index in self(step)]

    def _at(self, place: int) -> int:
        epoch, index = divmod(place, len(self._is_task))
        if epoch not in self._epochs:
            self._epochs = {number: rows for number, rows in self._epochs.items() if number == epoch - 1} | {epoch: self._rows(epoch)}
        return int(self._epochs[epoch][index])

    def _rows(self, epoch: int) -> NDArray[np.int64]:
        rows = np.arange(len(self._is_task))
        if epoch:
            rows = np.argsort([keyed_int(self._seed, f"epoch-{epoch}", identifier) for identifier in self._example_ids()], kind="stable")
        if self._order == "shuffled":
            return rows
        later = self._is_task[rows] == (self._order == "task_last")
        return np.concatenate([rows[~later], rows[later]])
