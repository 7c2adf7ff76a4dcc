"""Which rows of a source a blend takes: an order in which a larger share only adds to a smaller one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from delia_ray.records import keyed_int


def by_hash(ids: Sequence[str], share: int, seed: int) -> NDArray[np.bool_]:
    """[N] whether each row is among the ``share`` first by a hash of its id."""
    return _first(np.fromiter((keyed_int(seed, "blend", each) for each in ids), dtype=np.int64, count=len(ids)), share)


def by_id(ids: Sequence[str], share: int) -> NDArray[np.bool_]:
    """[N] whether each row is among the ``share`` first by its id: for a source whose later rows have larger ids."""
    return _first(np.argsort(np.argsort(np.array(ids, dtype=object), kind="stable"), kind="stable"), share)


def _first(places: NDArray[np.int64], share: int) -> NDArray[np.bool_]:
    first = np.zeros(len(places), dtype=bool)
    first[np.argsort(places, kind="stable")[:share]] = True
    return first
