"""Batch sampling: the rows of each optimizer step, determined by the seed alone."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from delia_ray.core.records import keyed_int


def count_steps(task_rows: int, ratio: float, epochs: float, global_batch_size: int) -> int:
    """Count the optimizer steps of ``epochs`` passes over ``task_rows * (1 + ratio)`` rows, rounded up."""
    rows = task_rows + int(ratio * task_rows)
    return max(1, -int(-epochs * rows // global_batch_size))


class BatchSampler:
    """Row indices of each optimizer step, over as many epochs as the steps need.

    The first epoch keeps the order of the mixture; each later one is shuffled anew. Only the orders of the latest epochs are cached.

    Args:
        groups: [rows] ``task`` or ``diverse``, in the order of the mixture.
        read_example_ids: gives the rows' ids in that order; called for epochs after the first.
        order: whether task and diverse rows are shuffled together or follow each other.
    """

    def __init__(
        self,
        groups: Sequence[str],
        read_example_ids: Callable[[], Sequence[str]],
        global_batch_size: int,
        seed: int,
        order: Literal["shuffled", "task_first", "task_last"] = "shuffled",
    ):
        self._is_task = np.array([group == "task" for group in groups])
        self._read_example_ids = read_example_ids
        self._global_batch_size = global_batch_size
        self._seed = seed
        self._order = order
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def __call__(self, step: int) -> list[int]:
        """Return the indices of the ``global_batch_size`` rows of ``step`` (from 0)."""
        first = step * self._global_batch_size
        return [self._get_row(position) for position in range(first, first + self._global_batch_size)]

    def get_example_ids(self, step: int) -> list[str]:
        """Return the example ids of the rows of ``step``."""
        example_ids = self._read_example_ids()
        return [example_ids[index] for index in self(step)]

    def _get_row(self, position: int) -> int:
        """Return the row index at ``position``, counted over all epochs."""
        epoch, index = divmod(position, len(self._is_task))
        if epoch not in self._epochs:
            previous = {number: rows for number, rows in self._epochs.items() if number == epoch - 1}
            self._epochs = previous | {epoch: self._order_epoch(epoch)}
        return int(self._epochs[epoch][index])

    def _order_epoch(self, epoch: int) -> NDArray[np.int64]:
        rows = np.arange(len(self._is_task))
        if epoch:
            keys = [keyed_int(self._seed, f"epoch-{epoch}", example_id) for example_id in self._read_example_ids()]
            rows = np.argsort(keys, kind="stable")
        if self._order == "shuffled":
            return rows
        later = self._is_task[rows] == (self._order == "task_last")
        return np.concatenate([rows[~later], rows[later]])
