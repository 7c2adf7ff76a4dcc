"""transformers 5.23: what a model's attention supports, and whether its MLP is Llama's.

Can go when a model says publicly which attention it has and takes: https://huggingface.co/docs/transformers/attention_interface.
"""

from typing import Any

from torch import nn


def get_attention(model: Any) -> str:
    """The name of the attention implementation that ``model`` uses."""
    return model.config._attn_implementation


def takes_registered_attention(model: Any) -> bool:
    """Whether the layers of ``model`` call whatever implementation is set, so that one of our own can be registered."""
    return model._can_set_attn_implementation()


def supports_sdpa(model: Any) -> bool:
    """Whether ``model`` runs with ``scaled_dot_product_attention``."""
    return bool(model._supports_sdpa)


def is_llama_mlp(layer: Any) -> bool:
    """Whether the forward of ``layer`` has the bytecode of Llama's MLP, and its activation has no parameters."""
    from transformers.models.llama.modeling_llama import LlamaMLP  # noqa: PLC0415  seconds to import

    code, llama_code = type(layer).forward.__code__, LlamaMLP.forward.__code__
    same = (code.co_code, code.co_names) == (llama_code.co_code, llama_code.co_names)
    return same and isinstance(layer.act_fn, nn.Module) and not list(layer.act_fn.parameters())
