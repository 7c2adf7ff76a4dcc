"""Gradients of single rows, at the start weights and after a step.

Legend: T learnt tokens of a row, V vocabulary, N rows, S sampled coordinates, L layers.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from delia_ray.probing.coordinates import Coordinates
from delia_ray.probing.raw import Floats
from delia_ray.progress import Tally

Weights = Mapping[str, Tensor]
"""The weights that are looked at, by name."""
RowT = TypeVar("RowT", contravariant=True)


class Probed(Protocol, Generic[RowT]):
    """A model as a function of the weights that are looked at."""

    def logits(self, weights: Weights, row: RowT) -> Tensor:
        """[T, V] at the positions that predict the row's learnt tokens."""
        ...

    def targets(self, row: RowT) -> Tensor:
        """[T] those tokens."""
        ...


def row_gradient(model: Probed[RowT], weights: Weights, row: RowT) -> dict[str, Tensor]:
    """Gradient of the row's summed cross-entropy, sum_t -log p(y_t | y_<t).

    Summed, not averaged over the row: the sum's expectation is 0 for answers that the model draws itself at temperature 1, wherever
    they stop (the score function identity, METHOD 2), while a mean over a length that is drawn too has a small bias.
    """
    free = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    cost = torch.nn.functional.cross_entropy(model.logits(free, row), model.targets(row), reduction="sum")
    return dict(zip(free, torch.autograd.grad(cost, list(free.values())), strict=True))


def row_gradients(
    model: Probed[RowT], weights: Weights, rows: Sequence[RowT], coordinates: Coordinates, tally: Tally
) -> tuple[Tensor, dict[str, Tensor]]:
    """[N, S] gradients of each row, and their sum in all coordinates."""
    gathered: list[Tensor] = []
    total: dict[str, Tensor] = {}
    for row in rows:
        gradient = row_gradient(model, weights, row)
        gathered.append(coordinates.gather(gradient))
        for name, part in gradient.items():
            total[name] = total[name].add_(part) if name in total else part
        tally.add(rows=1, tokens=len(model.targets(row)))
    return torch.stack(gathered), total


def stepped(weights: Weights, direction: Mapping[str, Tensor], size: float) -> dict[str, Tensor]:
    """theta0 - size * direction."""
    return {name: weight.detach() - size * direction[name] for name, weight in weights.items()}


def grams(rows_NS: Tensor, slices: Iterable[Sequence[slice]]) -> Floats:
    """[L, N, N] inner products of the rows, layer by layer, in double precision."""
    layers: list[Any] = []
    for parts in slices:
        part_NS = torch.cat([rows_NS[:, part] for part in parts], dim=1).double()
        layers.append((part_NS @ part_NS.T).cpu().numpy())
    return np.stack(layers)
