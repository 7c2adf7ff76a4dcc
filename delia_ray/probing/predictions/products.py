"""Inner products of gradients, the result of the probe's worker: every number of the probe and its interval follow from them.

Legend: N diverse rows, M rows of all sets, L layers, K vectors of a basis.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
SETS = ("own", "pool", "foreign", "task")
"""Sets of rows: the model's own answers, the pool's answers, foreign answers, the task's rows."""


@dataclass(frozen=True)
class StepProducts:
    """Inner products after one step: of the diverse rows' gradients with each other, and with the task's gradient."""

    length: float
    """Length of the step, as a fraction of the weights' norm."""
    eta: float
    """The step is eta times the task's gradient."""
    gram_NN: Floats
    dots_N: Floats


@dataclass(frozen=True)
class UpdateProducts:
    """Norms of one arm's update, and its inner products with the basis."""

    norm: float
    """Over all weights of the model."""
    chosen_norm: float
    """Over the weights that are examined."""
    sampled_norm: float
    """Over the sampled coordinates."""
    dots_K: Floats


@dataclass(frozen=True)
class GradientProducts:
    """Inner products over the sampled coordinates. Gradients are summed over a row's tokens."""

    parameters: int
    """Numbers in the model."""
    chosen: int
    """Numbers in the weights that are examined."""
    coordinates: int
    """Sampled coordinates of those weights."""
    tokens: dict[str, Floats]
    """Set -> supervised tokens of each row."""
    layers: list[str]
    grams_LMM: Floats
    """Gram matrix of each layer, of the rows of all ``SETS`` in their order."""
    steps: list[StepProducts]
    task_norm: float
    """Norm of the task's mean gradient per token, over all coordinates."""
    sampled_task_norm: float
    """The same over the sampled coordinates."""
    forms_N: Floats
    """Each diverse row's term of g' F g, with g the task's gradient divided by its norm; over all coordinates."""
    fisher_NKK: Floats
    """Each Fisher row's term of F within the basis."""
    residuals: list[float]
    """|F y - lambda y| / lambda_1 of each top eigenvector."""
    updates: dict[str, UpdateProducts]
    """Arm -> its update."""

    def find_slice(self, name: str) -> slice:
        """Find where the rows of a set are among those of all ``SETS``."""
        start = sum(len(self.tokens[earlier]) for earlier in SETS[: SETS.index(name)])
        return slice(start, start + len(self.tokens[name]))

    @property
    def fraction(self) -> float:
        """Fraction of the numbers of the examined weights that was sampled."""
        return self.coordinates / self.chosen
