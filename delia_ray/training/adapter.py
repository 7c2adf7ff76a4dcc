"""LoRA's sum with fewer passes over memory than PEFT's own, for layers that do nothing else.

Legend: T tokens, I inputs, O outputs, R rank.
"""

from types import MethodType
from typing import Any

from torch import Tensor, nn


def scale_at_the_rank(model: nn.Module) -> None:
    """Let every plain LoRA layer of ``model`` multiply by alpha / R at its R inner values, not at its O outputs.

    PEFT computes ``base(x) + B(A(x)) * scale`` and so walks over [T, O] once more forward and once more backward. Layers
    with DoRA, a quantised base, or several adapters keep PEFT's forward.
    """
    from peft.tuners.lora import Linear  # noqa: PLC0415  seconds to import

    for layer in model.modules():
        if type(layer) is Linear and not layer.lora_variant and type(layer.base_layer) is nn.Linear:
            layer.forward = MethodType(_forward, layer)  # pyright: ignore[reportAttributeAccessIssue]


def _forward(layer: Any, x_TI: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """[T, O] outputs, in the base layer's precision."""
    if layer.disable_adapters or layer.merged or args or kwargs or len(layer.active_adapters) != 1:
        return type(layer).forward(layer, x_TI, *args, **kwargs)
    name = layer.active_adapters[0]
    down, up = layer.lora_A[name], layer.lora_B[name]
    result_TO = layer.base_layer(x_TI)
    inner_TR = down(layer.lora_dropout[name](x_TI.to(down.weight.dtype)))
    # The base layer's product is its own, and its backward needs only its input, so the sum may overwrite it.
    return result_TO.add_(up(inner_TR * layer.scaling[name]))
