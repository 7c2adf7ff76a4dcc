"""Selection of kernels: what is chosen where, and that each choice computes the same."""

import pytest
import torch
from torch import nn

from delia_ray.core.errors import UserError
from delia_ray.placement import Kernels, TrainWorkers
from delia_ray.training.kernels.select import load_loss, resolve_kernels, use_kernels


def test_without_a_compiler_the_error_names_the_fix(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"placement\.finetune\.kernels\.layers: .*no-such-compiler; use torch"):
        use_kernels(nn.Linear(2, 2), Kernels(layers="compiled"))


def test_gpus_take_the_libraries_code_and_cpus_ours_unless_it_is_set():
    assert resolve_kernels(TrainWorkers(num_gpus=1)) == Kernels(attention="torch", lora="peft", loss="torch")
    assert resolve_kernels(TrainWorkers()) == Kernels(attention="cpu", lora="cpu", loss="chunked")
    own = Kernels(attention="torch", lora="peft", loss="chunked", layers="liger")
    assert resolve_kernels(TrainWorkers(kernels=own)) == resolve_kernels(TrainWorkers(kernels=own, num_gpus=1)) == own


def test_code_for_cpus_is_refused_on_a_gpu():
    with pytest.raises(UserError, match=r"placement\.finetune\.kernels\.attention: cpu runs on CPUs"):
        resolve_kernels(TrainWorkers(kernels=Kernels(attention="cpu"), num_gpus=1))


def test_both_losses_are_equal_with_their_gradients():
    logits, targets = torch.randn(7, 11), torch.randint(11, (7,))
    results: list[tuple[torch.Tensor, torch.Tensor]] = []
    for kernels in (Kernels(loss="torch"), Kernels(loss="chunked")):
        inputs = logits.clone().requires_grad_()
        losses = load_loss(kernels)(inputs, targets)
        losses.square().sum().backward()
        assert inputs.grad is not None
        results.append((losses.detach(), inputs.grad))
    torch.testing.assert_close(results[0], results[1])
