"""What the probe's worker gives back: inner products, from which every number and its interval follow.

Legend: N diverse rows, M rows of all sets, L layers, K vectors of a basis.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
SETS = ("own", "pool", "foreign", "task")


@dataclass(frozen=True)
class RawStep:
    """After one step: each diverse row's gradient with the others, and with the task's gradient."""

    length: float
    eta: float
    gram_NN: Floats
    dots_N: Floats


@dataclass(frozen=True)
class RawUpdate:
    """An arm's update: norms over all weights, over those looked at, over the sample; and its parts along the basis."""

    whole: float
    chosen: float
    sampled: float
    basis_K: Floats


@dataclass(frozen=True)
class Raw:
    """Inner products over the sampled coordinates. Gradients are summed over a row's tokens."""

    parameters: int
    chosen: int
    coordinates: int
    tokens: dict[str, Floats]
    """Set -> learnt tokens of each row."""
    layers: list[str]
    grams_LMM: Floats
    """Layer by layer, of the rows of all ``SETS`` in their order."""
    steps: list[RawStep]
    task_norm: float
    """Of the task's mean gradient a token, over all coordinates."""
    task_sampled: float
    forms_N: Floats
    """Each diverse row's share of g' F g, with g the task's gradient over its norm; all coordinates."""
    basis_NKK: Floats
    """Each Fisher row's share of F within the basis."""
    residuals: list[float]
    updates: dict[str, RawUpdate]

    def rows_of(self, name: str) -> slice:
        """Where the rows of a set are among those of all ``SETS``."""
        start = sum(len(self.tokens[before]) for before in SETS[: SETS.index(name)])
        return slice(start, start + len(self.tokens[name]))

    @property
    def fraction(self) -> float:
        """Share of the chosen weights' numbers that was sampled."""
        return self.coordinates / self.chosen
