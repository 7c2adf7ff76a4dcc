import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from delia_ray.training.adapter import scale_at_the_rank


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


def test_the_folded_sum_and_its_gradients_equal_pefts() -> None:
    theirs, ours = adapted(), adapted()
    scale_at_the_rank(ours)
    assert "forward" in vars(ours.get_submodule("base_model.model.0"))
    torch.testing.assert_close(outputs_and_gradients(ours), outputs_and_gradients(theirs))


def test_a_switched_off_adapter_leaves_the_base_model() -> None:
    model = adapted()
    scale_at_the_rank(model)
    inputs = torch.randn(3, 8)
    layers = [model.get_submodule(f"base_model.model.{index}.base_layer") for index in range(2)]
    with model.disable_adapter():  # pyright: ignore
        torch.testing.assert_close(model(inputs), layers[1](layers[0](inputs)), rtol=0, atol=0)


def test_dora_keeps_pefts_forward() -> None:
    model = adapted(use_dora=True)
    scale_at_the_rank(model)
    assert "forward" not in vars(model.get_submodule("base_model.model.0"))
