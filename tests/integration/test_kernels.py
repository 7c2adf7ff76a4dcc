"""Kernels that are compiled, and what a process with a GPU imports: seconds each, so not among the unit tests."""

import subprocess
import sys

import torch
from torch import nn
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from delia_ray.placement import Kernels
from delia_ray.training.kernels.select import use_kernels


class TinyRMSNorm(nn.Module):
    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + 1e-6)


def test_compiled_norms_compute_the_same_and_keep_the_models_names():
    model, states = nn.Sequential(TinyRMSNorm(), nn.Linear(4, 4)), torch.randn(3, 4)
    before, names = model(states), list(model.state_dict())
    use_kernels(model, Kernels(layers="compiled"))
    torch.testing.assert_close(model(states), before)
    assert list(model.state_dict()) == names
    assert model[0]._compiled_call_impl is not None and model[1]._compiled_call_impl is None


class ClampedMLP(LlamaMLP):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj((self.act_fn(self.gate_proj(x)) * self.up_proj(x)).clamp(max=1))


def test_a_compiled_gate_computes_the_same_and_another_mlp_keeps_its_own():
    config = LlamaConfig(hidden_size=8, intermediate_size=12, num_attention_heads=2)
    model, states = nn.ModuleList([LlamaMLP(config), ClampedMLP(config)]), torch.randn(3, 8)

    def outputs_and_gradients() -> list[torch.Tensor]:
        inputs = states.clone().requires_grad_()
        outputs = model[0](inputs)
        return [outputs, *torch.autograd.grad(outputs.square().sum(), [inputs, *model[0].parameters()])]

    before, names = outputs_and_gradients(), list(model.state_dict())
    use_kernels(model, Kernels(layers="compiled"))
    torch.testing.assert_close(outputs_and_gradients(), before)
    assert list(model.state_dict()) == names
    assert "forward" in vars(model[0]) and "forward" not in vars(model[1])


ON_A_GPU = """
import sys, torch
from delia_ray.placement import TrainWorkers
from delia_ray.training.kernels.select import load_attention, load_loss, resolve_kernels, use_kernels
import delia_ray.training.objective, delia_ray.training.engine, delia_ray.training.worker
kernels = resolve_kernels(TrainWorkers(num_gpus=1))
use_kernels(torch.nn.Linear(2, 2), kernels), load_loss(kernels), load_attention(kernels)
print(*(name for name in sys.modules if name.startswith("delia_ray.training.kernels.")))
"""


def test_a_gpu_imports_no_code_for_cpus():
    loaded = subprocess.run([sys.executable, "-c", ON_A_GPU], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {f"delia_ray.training.kernels.{name}" for name in ("cpu_attention", "fused_lora", "cross_entropy")}
