import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from delia_ray.training.kernels.fused_lora import _FusedLora, fuse_lora  # pyright: ignore[reportPrivateUsage]


def adapted(**options: object) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6, bias=False), nn.Linear(6, 4))
    config = LoraConfig(r=2, lora_alpha=3, target_modules=["0", "1"], init_lora_weights=False, **options)  # pyright: ignore[reportArgumentType]
    return get_peft_model(model, config)  # pyright: ignore[reportArgumentType]


def outputs_and_gradients(model: nn.Module) -> list[torch.Tensor]:
    inputs = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    outputs = model(inputs)
    outputs.square().sum().backward()
    return [outputs, *(weight.grad for weight in model.parameters() if weight.grad is not None)]


@pytest.mark.parametrize("partitioned", [False, True])
def test_the_fused_forward_and_its_gradients_equal_pefts(partitioned: bool) -> None:
    expected, fused = adapted(), adapted()
    if partitioned:  # ZeRO-3 gathers a weight only while its module runs
        for weight in fused.parameters():
            weight.ds_id = 0  # pyright: ignore[reportAttributeAccessIssue]
    fuse_lora(fused)
    assert "forward" in vars(fused.get_submodule("base_model.model.0"))
    torch.testing.assert_close(outputs_and_gradients(fused), outputs_and_gradients(expected))


def test_the_fused_backward_passes_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (2, 3, 5), "weight": (4, 5), "bias": (4,), "down": (2, 5), "up": (4, 2)}
    arguments = {name: torch.randn(shape, dtype=torch.float64, generator=generator) for name, shape in shapes.items()}
    for trained in ("x", "down", "up"):
        arguments[trained].requires_grad_()
    assert torch.autograd.gradcheck(_FusedLora.apply, (*arguments.values(), 1.5))  # pyright: ignore[reportArgumentType]


def test_a_disabled_adapter_leaves_the_base_model() -> None:
    model = adapted()
    fuse_lora(model)
    inputs = torch.randn(3, 8)
    layers = [model.get_submodule(f"base_model.model.{index}.base_layer") for index in range(2)]
    with model.disable_adapter():  # pyright: ignore
        torch.testing.assert_close(model(inputs), layers[1](layers[0](inputs)), rtol=0, atol=0)


def test_dora_keeps_pefts_forward() -> None:
    model = adapted(use_dora=True)
    fuse_lora(model)
    assert "forward" not in vars(model.get_submodule("base_model.model.0"))
