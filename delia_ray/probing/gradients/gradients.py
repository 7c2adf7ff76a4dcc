"""Per-row gradients of a model, at the base weights and after a step, and their Gram matrices.

Legend: T supervised tokens of a row, V vocabulary, N rows, S sampled coordinates, L layers.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from delia_ray.core.progress import Tally
from delia_ray.probing.gradients.coordinates import Coordinates
from delia_ray.probing.predictions.products import Floats

Weights = Mapping[str, Tensor]
"""Name -> weight, of the weights that are examined."""
RowT = TypeVar("RowT", contravariant=True)


class FunctionalModel(Protocol, Generic[RowT]):
    """A model as a function of the weights that are examined, as in ``torch.func``."""

    def logits(self, weights: Weights, row: RowT) -> Tensor:
        """Compute the logits [T, V] at the positions that predict the row's supervised tokens."""
        ...

    def targets(self, row: RowT) -> Tensor:
        """Return the supervised tokens [T] of the row."""
        ...


def row_gradient(model: FunctionalModel[RowT], weights: Weights, row: RowT) -> dict[str, Tensor]:
    """Compute the gradient of a row's summed cross-entropy, sum_t -log p(y_t | y_<t).

    It is summed, not averaged over the row. For answers that the model samples itself at temperature 1, the expectation of the sum is 0,
    wherever they stop (score function identity; docs/method.md, Theory). A mean over a length that is random, too, has a small bias.
    """
    variables = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    loss = torch.nn.functional.cross_entropy(model.logits(variables, row), model.targets(row), reduction="sum")
    return dict(zip(variables, torch.autograd.grad(loss, list(variables.values())), strict=True))


def row_gradients(
    model: FunctionalModel[RowT], weights: Weights, rows: Sequence[RowT], coordinates: Coordinates, tally: Tally
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the gradients [N, S] of all rows at the sampled coordinates, and their sum over the rows in all coordinates."""
    gathered: list[Tensor] = []
    total: dict[str, Tensor] = {}
    for row in rows:
        gradient = row_gradient(model, weights, row)
        gathered.append(coordinates.gather(gradient))
        for name, part in gradient.items():
            total[name] = total[name].add_(part) if name in total else part
        tally.add(rows=1, tokens=len(model.targets(row)))
    return torch.stack(gathered), total


def take_step(weights: Weights, direction: Mapping[str, Tensor], size: float) -> dict[str, Tensor]:
    """Compute the weights after a gradient step, theta0 - size * direction."""
    return {name: weight.detach() - size * direction[name] for name, weight in weights.items()}


def gram_matrices(rows_NS: Tensor, slices: Iterable[Sequence[slice]]) -> Floats:
    """Compute the inner products [L, N, N] of the rows, layer by layer, in double precision.

    Args:
        rows_NS: gradients of the rows.
        slices: for each layer, where its coordinates are among the S.
    """
    layers: list[Any] = []
    for parts in slices:
        part_NS = torch.cat([rows_NS[:, part] for part in parts], dim=1).double()
        layers.append((part_NS @ part_NS.T).cpu().numpy())
    return np.stack(layers)
