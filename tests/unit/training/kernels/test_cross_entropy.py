"""Cross-entropy of tokens in chunks."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from delia_ray.training.kernels import cross_entropy as module
from delia_ray.training.kernels.cross_entropy import token_losses

VOCABULARY = 50


def losses_and_gradient(function, logits_SV: Tensor, targets_S: Tensor, weights_S: Tensor) -> tuple[Tensor, Tensor]:
    logits_SV = logits_SV.clone().requires_grad_()
    losses_S = function(logits_SV, targets_S)
    (losses_S * weights_S).sum().backward()
    assert logits_SV.grad is not None
    return losses_S.detach(), logits_SV.grad


@pytest.mark.parametrize("tokens", [0, 1, 7, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
def test_losses_and_gradient_equal_torchs(tokens: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CPU_CHUNK", 3 * VOCABULARY + 1)
    torch.manual_seed(0)
    logits_SV = (10 * torch.randn(tokens, VOCABULARY)).to(dtype)
    inputs = logits_SV, torch.randint(VOCABULARY, (tokens,)), torch.rand(tokens)
    losses_S, gradient_SV = losses_and_gradient(token_losses, *inputs)
    expected_S, expected_SV = losses_and_gradient(lambda logits, targets: cross_entropy(logits.float(), targets, reduction="none"), *inputs)
    assert losses_S.dtype == torch.float32
    assert gradient_SV.dtype == dtype
    assert torch.equal(losses_S, expected_S)
    assert torch.allclose(gradient_SV, expected_SV, rtol=tolerance, atol=1e-7)


def test_a_vocabulary_above_the_chunk_size_is_computed_token_by_token(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CPU_CHUNK", VOCABULARY // 2)
    logits_SV, targets_S = torch.randn(4, VOCABULARY), torch.arange(4)
    assert torch.equal(token_losses(logits_SV, targets_S), cross_entropy(logits_SV, targets_S, reduction="none"))


def test_only_the_logits_are_kept_for_the_backward_pass():
    logits_SV = torch.randn(4, VOCABULARY, dtype=torch.bfloat16, requires_grad=True)
    saved: list[Tensor] = []

    def save(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        token_losses(logits_SV, torch.arange(4))
    assert [each.data_ptr() for each in saved if each.is_floating_point()] == [logits_SV.data_ptr()]
