import pytest
import torch

from delia_ray.training.ledger import UpdateNorm


def moved(*sizes: int) -> tuple[float, float]:
    """The watched norm of one step of random size, and the true one."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(size)) for size in sizes]
    before = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    watch = UpdateNorm(optimizer, trained=sum(sizes), world=1)
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    true = sum(float((weight.detach() - old).square().sum()) for weight, old in zip(weights, before, strict=True))
    return watch.take() ** 0.5, true**0.5


def test_small_parameters_are_watched_whole() -> None:
    found, true = moved(7, 100_000)
    assert found == pytest.approx(true, rel=1e-6)


def test_large_parameters_are_watched_in_part() -> None:
    found, true = moved(1_000_003)
    assert found != pytest.approx(true, rel=1e-6)
    assert found == pytest.approx(true, rel=0.02)
