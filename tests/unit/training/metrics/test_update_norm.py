import pytest
import torch

from delia_ray.training.metrics.step_metrics import UpdateNorm


def measure(*sizes: int) -> tuple[float, float]:
    """The measured norm of one random step, and the true one."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(size)) for size in sizes]
    before = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    update_norm = UpdateNorm(optimizer, num_trained=sum(sizes), world=1)
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    true = sum(float((weight.detach() - old).square().sum()) for weight, old in zip(weights, before, strict=True))
    return update_norm.pop_square() ** 0.5, true**0.5


def test_small_parameters_are_compared_whole() -> None:
    measured, true = measure(7, 100_000)
    assert measured == pytest.approx(true, rel=1e-6)


def test_large_parameters_are_sampled() -> None:
    measured, true = measure(1_000_003)
    assert measured != pytest.approx(true, rel=1e-6)
    assert measured == pytest.approx(true, rel=0.02)
