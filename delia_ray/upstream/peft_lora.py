"""PEFT 0.21: the parts of a LoRA layer, from which its sum is computed in one pass.

Can go when PEFT adds the low-rank product in place: https://github.com/huggingface/peft/blob/main/src/peft/tuners/lora/layer.py.
"""

from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any, NamedTuple

from torch import Tensor, nn


class LoraParts(NamedTuple):
    """What ``base(x) + up(down(dropout(x))) * scale`` is made of."""

    base: nn.Linear
    down: nn.Linear
    up: nn.Linear
    dropout: nn.Module
    scale: float


def list_plain_layers(model: nn.Module) -> list[Any]:
    """The LoRA layers of ``model`` over a plain linear layer: no DoRA or other variant, no quantized base."""
    from peft.tuners.lora import Linear  # noqa: PLC0415  seconds to import

    layers: Iterator[Any] = (layer for layer in model.modules() if type(layer) is Linear)
    return [layer for layer in layers if not layer.lora_variant and type(layer.base_layer) is nn.Linear]


def replace_forward(layer: Any, forward: Callable[..., Tensor]) -> None:
    """Let ``layer`` compute ``forward(layer, x, ...)``."""
    layer.forward = MethodType(forward, layer)


def call_original(layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Compute the layer as PEFT does."""
    return type(layer).forward(layer, x, *args, **kwargs)


def read_parts(layer: Any) -> LoraParts | None:
    """The parts of the one active adapter; None where adapters are disabled, merged, or not exactly one is active."""
    if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
        return None
    name = layer.active_adapters[0]
    return LoraParts(layer.base_layer, layer.lora_A[name], layer.lora_B[name], layer.lora_dropout[name], layer.scaling[name])
