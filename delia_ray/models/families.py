"""What differs between architectures, in one place: found in a model's own configuration and code, never by its name.

Legend: N token ids, D hidden size, V vocabulary.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from delia_ray.errors import UserError

Separation = Literal["packed", "masked", "single"]
"""How rows of one forward pass are kept apart: by an attention over packed rows, by masks for the architecture's own attention, or not
at all, so that each row has a pass to itself."""
_ATTENTION = {"full_attention", "attention", "sliding_attention"}


def text_config(model: Any) -> Any:
    """The configuration of the language model; multimodal models keep it inside their own."""
    return model.config.get_text_config()


def check_architecture(folder: Path) -> None:
    """Refuse a model that could not be tuned, by its configuration alone: no weights are read.

    Raises:
        UserError: transformers has no causal language model of that kind, or its tables are none that new tokens can be added to.
    """
    import torch  # noqa: PLC0415  seconds to import
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415

    try:
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (ValueError, KeyError, ImportError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model: {folder} is no causal language model that transformers can build ({reason}); use another model") from None
    name, embedding, head = type(model).__name__, model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embedding, torch.nn.Embedding) or not isinstance(head, torch.nn.Linear):
        raise UserError(f"model: {name} has no plain tables to read and to score tokens with, so new tokens cannot be added; use another")
    if type(embedding).forward is not torch.nn.Embedding.forward and not hasattr(embedding, "embed_scale"):
        raise UserError(f"model: {name} changes what its embedding looks up, so that a new token's row cannot be trained; use another")


def table_rows(folder: Path) -> int:
    """Rows of the model's embedding, by its configuration."""
    from transformers import AutoConfig  # noqa: PLC0415  seconds to import

    config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return config.get_text_config().vocab_size


def find_separation(model: Any) -> Separation:
    """How ``model`` can keep rows apart, by its configuration. What mixes tokens otherwise than by attention is given one row at a time."""
    config = text_config(model)
    if set(layer_types(model)) - _ATTENTION or getattr(config, "alibi", False) or not model._can_set_attn_implementation():
        return "single"
    if getattr(config, "attn_logit_softcapping", None) or not model._supports_sdpa:
        return "masked"
    return "packed"


def context_tokens(model: Any) -> int:
    """Longest text that the architecture reads; models of state that name no limit get a long one."""
    config = text_config(model)
    return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 2**20


def attention_width(model: Any) -> int:
    """Query heads times their size, summed over all layers; 0 where nothing attends. Read off the projections that give the queries."""
    named = [layer for name, layer in model.named_modules() if name.rpartition(".")[2] == "q_proj"]
    if widths := [layer.out_features for layer in named if hasattr(layer, "out_features")]:
        return sum(widths)
    config = text_config(model).to_dict()
    heads, hidden = config.get("num_attention_heads") or 0, config.get("hidden_size") or 0
    return heads * (config.get("head_dim") or (hidden // heads if heads else 0)) * (config.get("num_hidden_layers") or 0)


def layer_types(model: Any) -> Sequence[str]:
    """What mixes the tokens in each layer."""
    config = text_config(model)
    types: Sequence[str] | None = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return types or ["sliding_attention" if window else "full_attention"] * config.num_hidden_layers


def windows(model: Any) -> list[int | None]:
    """For each layer how many tokens back a token sees, itself included; None is without limit."""
    window: int | None = getattr(text_config(model), "sliding_window", None)
    return [window if kind == "sliding_attention" else None for kind in layer_types(model)]


def embedding_scale(model: Any) -> Any:
    """What the input embedding multiplies each row of its table by when it looks it up: a scalar tensor, or 1.

    Gemma scales there by the root of the hidden size.

    Raises:
        UserError: the embedding does something else, which a new token's row would miss.
    """
    import torch  # noqa: PLC0415  seconds to import

    embedding = model.get_input_embeddings()
    scale: Any = getattr(embedding, "embed_scale", 1.0)
    scale = scale.to(embedding.weight.dtype) if isinstance(scale, torch.Tensor) else scale
    if embedding.weight.is_meta:
        return scale
    ids_N = torch.arange(min(8, embedding.num_embeddings), device=embedding.weight.device)
    with torch.no_grad():
        looked_up_ND, rows_ND = type(embedding).forward(embedding, ids_N), embedding.weight[ids_N]
        if not torch.allclose(looked_up_ND, rows_ND * scale, rtol=1e-3):
            raise UserError(
                f"model: {type(model).__name__} changes what its embedding looks up, so that a new token's row cannot be trained"
            )
    return scale


def head_scores(head: Any, states_D: Any, rows_ND: Any, token_ids: Sequence[int]) -> Any:
    """[..., N] logits that ``head`` would give tokens whose rows in its table were ``rows_ND``."""
    import torch  # noqa: PLC0415  seconds to import

    bias_V: Any = getattr(head, "bias", None)
    return torch.nn.functional.linear(states_D, rows_ND.to(states_D.dtype), None if bias_V is None else bias_V[list(token_ids)])
