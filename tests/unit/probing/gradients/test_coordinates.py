import pytest
import torch
from torch import nn

from delia_ray.core.errors import UserError
from delia_ray.probing.gradients.coordinates import Coordinates, norm, select_weights


def make_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"model.layers.{layer}.mlp.weight": torch.randn(40, 50, generator=generator) for layer in range(3)}


def test_what_is_scattered_is_gathered_again() -> None:
    coordinates = Coordinates(make_weights(), 500, seed=1)
    vector_S = torch.arange(500.0)
    assert torch.equal(coordinates.gather(coordinates.scatter(vector_S)), vector_S)
    assert sum(int((tensor != 0).sum()) for tensor in coordinates.scatter(vector_S + 1).values()) == 500


def test_all_coordinates_are_the_weights_themselves() -> None:
    named = make_weights()
    coordinates = Coordinates(named, None, seed=0)
    assert torch.equal(coordinates.gather(named), torch.cat([each.flatten() for each in named.values()]))
    assert coordinates.fraction == 1


def test_a_sample_keeps_the_norm_and_each_layers_share() -> None:
    named = make_weights()
    coordinates = Coordinates(named, 3000, seed=0)
    estimate = float(coordinates.gather(named).norm()) / coordinates.fraction**0.5
    assert estimate == pytest.approx(norm(named), rel=0.05)
    sizes = [sum(part.stop - part.start for part in parts) for parts in coordinates.layers.values()]
    assert list(coordinates.layers) == ["0", "1", "2"] and sum(sizes) == 3000
    assert all(900 < size < 1100 for size in sizes)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.head = nn.Linear(3, 5)

    def get_output_embeddings(self) -> nn.Linear:
        return self.head


def test_all_linear_leaves_out_the_head_and_biases() -> None:
    assert list(select_weights(Tiny(), "all-linear")) == ["inner.weight"]


def test_patterns_choose_by_name_and_one_that_fits_nothing_is_refused() -> None:
    assert list(select_weights(Tiny(), ["*.bias"])) == ["inner.bias", "head.bias"]
    with pytest.raises(UserError, match="no weight is called like q_proj"):
        select_weights(Tiny(), ["q_proj"])
