"""The costs of tokens, a few at a time."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from delia_ray.training import cross_entropy as module
from delia_ray.training.cross_entropy import token_costs

VOCABULARY = 50


def costs_and_gradient(cost, logits_SV: Tensor, targets_S: Tensor, weights_S: Tensor) -> tuple[Tensor, Tensor]:
    logits_SV = logits_SV.clone().requires_grad_()
    costs_S = cost(logits_SV, targets_S)
    (costs_S * weights_S).sum().backward()
    assert logits_SV.grad is not None
    return costs_S.detach(), logits_SV.grad


@pytest.mark.parametrize("tokens", [0, 1, 7, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
def test_costs_and_gradient_are_torchs(tokens: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_ON_CPU", 3 * VOCABULARY + 1)
    torch.manual_seed(0)
    logits_SV = (10 * torch.randn(tokens, VOCABULARY)).to(dtype)
    given = logits_SV, torch.randint(VOCABULARY, (tokens,)), torch.rand(tokens)
    costs_S, gradient_SV = costs_and_gradient(token_costs, *given)
    wanted_S, wanted_SV = costs_and_gradient(lambda logits, targets: cross_entropy(logits.float(), targets, reduction="none"), *given)
    assert costs_S.dtype == torch.float32
    assert gradient_SV.dtype == dtype
    assert torch.equal(costs_S, wanted_S)
    assert torch.allclose(gradient_SV, wanted_SV, rtol=tolerance, atol=1e-7)


def test_a_vocabulary_above_the_limit_is_taken_a_token_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_ON_CPU", VOCABULARY // 2)
    logits_SV, targets_S = torch.randn(4, VOCABULARY), torch.arange(4)
    assert torch.equal(token_costs(logits_SV, targets_S), cross_entropy(logits_SV, targets_S, reduction="none"))


def test_only_the_logits_are_kept_for_the_backward_pass():
    logits_SV = torch.randn(4, VOCABULARY, dtype=torch.bfloat16, requires_grad=True)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_costs(logits_SV, torch.arange(4))
    assert [each.data_ptr() for each in kept if each.is_floating_point()] == [logits_SV.data_ptr()]
