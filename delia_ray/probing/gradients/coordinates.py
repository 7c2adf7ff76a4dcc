"""The weights that the probe examines, and a random sample of their coordinates.

Legend: S sampled coordinates.
"""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from delia_ray.core.errors import UserError

_LAYER = re.compile(r"\.(\d+)\.")
_NAMES_IN_MESSAGE = 8


def select_weights(model: Any, parameters: Literal["all-linear"] | Sequence[str]) -> dict[str, Tensor]:
    """Select the weights of ``model`` that ``ProbeConfig.parameters`` names: name -> weight.

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
        examples = ", ".join(list(named)[:_NAMES_IN_MESSAGE])
        raise UserError(f"probe.parameters: no weight is called like {', '.join(parameters)}; the model has {examples}, ...")
    return chosen


class Coordinates:
    """A sample of the coordinates of some weights, without replacement, or all coordinates.

    A uniform sample preserves cosines and ratios of norms, and squared norms times ``fraction``, up to a relative error of about one over
    the square root of the sample's size.

    Attributes:
        size: S.
        chosen: numbers in all the weights together.
        layers: name of each layer -> where its coordinates are among the S.
    """

    def __init__(self, weights: Mapping[str, Tensor], size: int | None, seed: int):
        """
        Args:
            weights: name -> weight; the order matters.
            size: number of coordinates to sample; None, or at least as many as there are: all.
            seed: seed of the sample.
        """
        self._shapes = {name: weight.shape for name, weight in weights.items()}
        sizes = [weight.numel() for weight in weights.values()]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        self.chosen = int(starts[-1])
        self.size = self.chosen if size is None else min(size, self.chosen)
        if self.size == self.chosen:
            sample = np.arange(self.chosen)
        else:
            sample = np.sort(np.random.default_rng(seed).choice(self.chosen, self.size, replace=False, shuffle=False))
        bounds = np.searchsorted(sample, starts)
        self._indices: dict[str, Tensor] = {}
        self.layers: dict[str, list[slice]] = {}
        for name, start, low, high in zip(weights, starts, bounds, bounds[1:], strict=False):
            self._indices[name] = torch.from_numpy(sample[low:high] - start).to(weights[name].device)
            self.layers.setdefault(extract_layer(name), []).append(slice(int(low), int(high)))

    @property
    def fraction(self) -> float:
        """Fraction of the coordinates that is sampled."""
        return self.size / self.chosen

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Gather the sampled coordinates [S] of tensors in the weights' shapes."""
        return torch.cat([tensors[name].reshape(-1)[indices] for name, indices in self._indices.items()])

    def scatter(self, vector_S: Tensor) -> dict[str, Tensor]:
        """Scatter ``vector_S`` into tensors in the weights' shapes, with 0 elsewhere; the inverse of ``gather``."""
        parts = vector_S.split([len(indices) for indices in self._indices.values()])
        tensors: dict[str, Tensor] = {}
        for (name, indices), part in zip(self._indices.items(), parts, strict=True):
            flat = vector_S.new_zeros(self._shapes[name].numel())
            flat[indices] = part
            tensors[name] = flat.view(self._shapes[name])
        return tensors


def extract_layer(name: str) -> str:
    """Extract from a weight's name the number of its layer; outside of layers, the name without ``.weight``."""
    match = _LAYER.search(name)
    return match[1] if match else name.removesuffix(".weight")


def norm(tensors: Mapping[str, Tensor]) -> float:
    """Compute the Euclidean norm of all tensors as one vector."""
    return float(sum(float(tensor.double().square().sum()) for tensor in tensors.values()) ** 0.5)
