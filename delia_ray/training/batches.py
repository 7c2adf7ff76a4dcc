"""Which rows make up which step: a function of the seed and of nothing else."""

from collections.abc import Sequence

from delia_ray.records import keyed_int


def steps_for(task_rows: int, ratio: float, epochs: float, batch_rows: int) -> int:
    """Optimiser steps of ``epochs`` passes over ``task_rows * (1 + ratio)`` rows, rounded up."""
    rows = task_rows + int(ratio * task_rows)
    return max(1, -int(-epochs * rows // batch_rows))


class StepRows:
    """Row indices of each step, over as many epochs as the steps need.

    The first epoch keeps the mixture's own order; each later one is a shuffle of its own.
    """

    def __init__(self, example_ids: Sequence[str], batch_rows: int, seed: int):
        self._ids = example_ids
        self._batch_rows = batch_rows
        self._seed = seed
        self._epochs: dict[int, list[int]] = {0: list(range(len(example_ids)))}

    def __call__(self, step: int) -> list[int]:
        """Indices of the rows of ``step`` (from 0), ``batch_rows`` of them."""
        first = step * self._batch_rows
        return [self._at(place) for place in range(first, first + self._batch_rows)]

    def _at(self, place: int) -> int:
        epoch, index = divmod(place, len(self._ids))
        if epoch not in self._epochs:
            keys = [keyed_int(self._seed, f"epoch-{epoch}", identifier) for identifier in self._ids]
            self._epochs[epoch] = sorted(range(len(keys)), key=keys.__getitem__)
        return self._epochs[epoch][index]
