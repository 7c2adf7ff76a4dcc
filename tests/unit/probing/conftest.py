"""A softmax-linear model; all that the probe measures of it is known in closed form."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

INPUTS, LABELS, CONTEXTS = 3, 4, 5


class NoTally:
    """A tally that counts nothing."""

    def add(self, *, rows: int = 0, tokens: int = 0) -> None: ...

    def read(self) -> tuple[int, int]:
        return 0, 0


@dataclass(frozen=True)
class Row:
    """Contexts x [T, I], each with its label [T]."""

    x_TI: Tensor
    labels_T: Tensor


class SoftmaxLinear:
    """logits = W x, with W split into two weights, as a model has many."""

    def logits(self, weights: Mapping[str, Tensor], row: Row) -> Tensor:
        return row.x_TI @ torch.cat([weights["layers.0.w"], weights["layers.1.w"]]).T

    def targets(self, row: Row) -> Tensor:
        return row.labels_T


@dataclass(frozen=True)
class SoftmaxLinearProblem:
    """Base weights W [V, I], contexts [C, I], and their closed forms in numpy. Gradients are flat: the rows of W one after the other."""

    w_VI: NDArray[np.float64]
    x_CI: NDArray[np.float64]
    task: Row
    model: SoftmaxLinear = field(default_factory=SoftmaxLinear)

    def weights(self, w_VI: NDArray[np.float64] | None = None) -> dict[str, Tensor]:
        w_VI = self.w_VI if w_VI is None else w_VI
        return {"layers.0.w": torch.tensor(w_VI[:2]), "layers.1.w": torch.tensor(w_VI[2:])}

    def probabilities(self, w_VI: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Compute the softmax [C, V] of the logits."""
        logits = self.x_CI @ (self.w_VI if w_VI is None else w_VI).T
        exp = np.exp(logits - logits.max(1, keepdims=True))
        return exp / exp.sum(1, keepdims=True)

    def gradient(self, context: int, label: int, w_VI: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Compute (p - onehot) x', flat."""
        return np.outer(self.probabilities(w_VI)[context] - np.eye(LABELS)[label], self.x_CI[context]).ravel()

    def fisher(self) -> NDArray[np.float64]:
        """Compute the mean over contexts of (diag p - p p') kron x x'."""
        return np.mean(
            [np.kron(np.diag(p) - np.outer(p, p), np.outer(x, x)) for p, x in zip(self.probabilities(), self.x_CI, strict=True)], axis=0
        )

    def enumerate_answers(self) -> tuple[list[Row], NDArray[np.float64]]:
        """Make a row for each context and label, and the probability of that label: expectations are sums over these rows."""
        rows = [Row(torch.tensor(x)[None], torch.tensor([label])) for x in self.x_CI for label in range(LABELS)]
        return rows, self.probabilities().ravel()

    def task_gradient(self) -> NDArray[np.float64]:
        x_TI, labels_T = self.task.x_TI.numpy(), self.task.labels_T.numpy()
        logits = x_TI @ self.w_VI.T
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return np.mean([np.outer(p - np.eye(LABELS)[y], x).ravel() for p, y, x in zip(probabilities, labels_T, x_TI, strict=True)], axis=0)


@pytest.fixture(scope="session")
def problem() -> SoftmaxLinearProblem:
    rng = np.random.default_rng(0)
    task = Row(torch.tensor(rng.normal(size=(6, INPUTS))), torch.tensor(rng.integers(LABELS, size=6)))
    return SoftmaxLinearProblem(rng.normal(size=(LABELS, INPUTS)), rng.normal(size=(CONTEXTS, INPUTS)), task)


@pytest.fixture(scope="session")
def tally() -> NoTally:
    return NoTally()
