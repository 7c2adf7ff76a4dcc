"""The weights that are looked at, and a sample of their numbers that stands for all of them.

Legend: S sampled coordinates.
"""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from delia_ray.errors import UserError

_LAYER = re.compile(r"\.(\d+)\.")
_SHOWN = 8


def choose_weights(model: Any, parameters: Literal["all-linear"] | Sequence[str]) -> dict[str, Tensor]:
    """The weights of ``model`` that ``ProbeConfig.parameters`` asks for, by name.

    Raises:
        UserError: no weight has such a name.
    """
    named: dict[str, Tensor] = dict(model.named_parameters())
    if parameters == "all-linear":
        head = model.get_output_embeddings()
        linear = {f"{name}.weight" for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head}
        return {name: weight for name, weight in named.items() if name in linear}
    chosen = {name: weight for name, weight in named.items() if any(fnmatchcase(name, pattern) for pattern in parameters)}
    if not chosen:
        shown = ", ".join(list(named)[:_SHOWN])
        raise UserError(f"probe.parameters: no weight is called like {', '.join(parameters)}; the model has {shown}, ...")
    return chosen


class Coordinates:
    """Some numbers of some weights, drawn without replacement, or all of them.

    A uniform sample of the coordinates keeps cosines and shares, and squared norms times ``fraction``, up to a relative error of
    about one over the square root of their number.

    Attributes:
        size: S.
        chosen: numbers in all the weights together.
        layers: name of each layer -> where its coordinates are among the S.
    """

    def __init__(self, weights: Mapping[str, Tensor], size: int | None, seed: int):
        """
        Args:
            weights: by name; the order matters.
            size: how many to draw; null, or at least as many as there are: all.
        """
        self._shapes = {name: weight.shape for name, weight in weights.items()}
        sizes = [weight.numel() for weight in weights.values()]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        self.chosen = int(starts[-1])
        self.size = self.chosen if size is None else min(size, self.chosen)
        if self.size == self.chosen:
            drawn = np.arange(self.chosen)
        else:
            drawn = np.sort(np.random.default_rng(seed).choice(self.chosen, self.size, replace=False, shuffle=False))
        bounds = np.searchsorted(drawn, starts)
        self._places: dict[str, Tensor] = {}
        self.layers: dict[str, list[slice]] = {}
        for name, start, low, high in zip(weights, starts, bounds, bounds[1:], strict=False):
            self._places[name] = torch.from_numpy(drawn[low:high] - start).to(weights[name].device)
            self.layers.setdefault(layer_of(name), []).append(slice(int(low), int(high)))

    @property
    def fraction(self) -> float:
        """Share of the numbers that is drawn."""
        return self.size / self.chosen

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """[S] of one tensor a weight, in the weights' shapes."""
        return torch.cat([tensors[name].reshape(-1)[place] for name, place in self._places.items()])

    def scatter(self, vector_S: Tensor) -> dict[str, Tensor]:
        """The tensors that ``gather`` would give ``vector_S`` for, and that are 0 elsewhere."""
        parts = vector_S.split([len(place) for place in self._places.values()])
        tensors: dict[str, Tensor] = {}
        for (name, place), part in zip(self._places.items(), parts, strict=True):
            flat = vector_S.new_zeros(self._shapes[name].numel())
            flat[place] = part
            tensors[name] = flat.view(self._shapes[name])
        return tensors


def layer_of(name: str) -> str:
    """The number of the layer that a weight belongs to, or what the weight is called outside of layers."""
    found = _LAYER.search(name)
    return found[1] if found else name.removesuffix(".weight")


def norm(tensors: Mapping[str, Tensor]) -> float:
    """Euclidean norm of all tensors as one vector."""
    return float(sum(float(tensor.double().square().sum()) for tensor in tensors.values()) ** 0.5)
