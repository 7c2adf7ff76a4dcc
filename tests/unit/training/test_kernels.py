"""Fused kernels, where they can be had."""

import pytest
import torch
from torch import nn
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from delia_ray.errors import UserError
from delia_ray.training.kernels import use_kernels


class TinyRMSNorm(nn.Module):
    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + 1e-6)


def test_compiled_norms_say_the_same_and_keep_the_model_s_names():
    model, states = nn.Sequential(TinyRMSNorm(), nn.Linear(4, 4)), torch.randn(3, 4)
    before, names = model(states), list(model.state_dict())
    use_kernels(model, "compiled")
    torch.testing.assert_close(model(states), before)
    assert list(model.state_dict()) == names
    assert model[0]._compiled_call_impl is not None and model[1]._compiled_call_impl is None


class ClampedMLP(LlamaMLP):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj((self.act_fn(self.gate_proj(x)) * self.up_proj(x)).clamp(max=1))


def test_a_compiled_gate_says_the_same_and_another_mlp_keeps_its_own():
    config = LlamaConfig(hidden_size=8, intermediate_size=12, num_attention_heads=2)
    model, states = nn.ModuleList([LlamaMLP(config), ClampedMLP(config)]), torch.randn(3, 8)

    def found() -> list[torch.Tensor]:
        inputs = states.clone().requires_grad_()
        outputs = model[0](inputs)
        return [outputs, *torch.autograd.grad(outputs.square().sum(), [inputs, *model[0].parameters()])]

    before, names = found(), list(model.state_dict())
    use_kernels(model, "compiled")
    torch.testing.assert_close(found(), before)
    assert list(model.state_dict()) == names
    assert "forward" in vars(model[0]) and "forward" not in vars(model[1])


def test_without_a_compiler_there_is_a_way_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"placement\.finetune\.kernels: .*no-such-compiler; use plain"):
        use_kernels(nn.Linear(2, 2), "compiled")
