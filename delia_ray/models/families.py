"""Properties that differ between architectures, read from a model's configuration and code, never from its name.

Legend: N token ids, D hidden size, V vocabulary.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from delia_ray.core.errors import UserError
from delia_ray.upstream.transformers_models import supports_sdpa, takes_registered_attention

PackingMode = Literal["packed", "masked", "single"]
"""How rows of one forward pass are separated: ``packed``, by attention over packed rows; ``masked``, by masks for the architecture's own
attention; ``single``, not at all, so that each row needs a pass of its own."""
_ATTENTION_LAYERS = {"full_attention", "attention", "sliding_attention"}


def get_text_config(model: Any) -> Any:
    """Return the config of the language model; multimodal models nest it in their own."""
    return model.config.get_text_config()


def check_architecture(folder: Path) -> None:
    """Refuse a model that cannot be tuned, from its configuration alone; no weights are read.

    Raises:
        UserError: transformers has no causal language model for it, or new tokens cannot be added to its embeddings.
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
        raise UserError(f"model: {name} has no plain input embedding and output head, so new tokens cannot be added; use another")
    if type(embedding).forward is not torch.nn.Embedding.forward and not hasattr(embedding, "embed_scale"):
        raise UserError(f"model: {name} transforms its embeddings in a way that rows of new tokens would miss; use another")


def embedding_rows(folder: Path) -> int:
    """Number of rows of the model's embedding (``vocab_size``), from its configuration."""
    from transformers import AutoConfig  # noqa: PLC0415  seconds to import

    config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return config.get_text_config().vocab_size


def find_packing_mode(model: Any) -> PackingMode:
    """Return how rows of one pass can be separated, from the config; models with layers other than attention get one row at a time."""
    config = get_text_config(model)
    if set(layer_types(model)) - _ATTENTION_LAYERS or getattr(config, "alibi", False) or not takes_registered_attention(model):
        return "single"
    if getattr(config, "attn_logit_softcapping", None) or not supports_sdpa(model):
        return "masked"
    return "packed"


def max_context_tokens(config: Any) -> int:
    """Maximum context length in tokens by a model's configuration; state-space models without a limit in it get 2**20."""
    text = config.get_text_config()
    return getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None) or 2**20


def has_scaled_rope(config: Any) -> bool:
    """Whether a configuration stretches rotary positions beyond the length that the model was trained on first."""
    parameters: Any = getattr(config.get_text_config(), "rope_parameters", None) or {}
    sections = [parameters, *(each for each in parameters.values() if isinstance(each, dict))]  # some models have one a kind of layer
    return any(section.get("rope_type", "default") != "default" for section in sections)


def read_max_context_tokens(folder: Path) -> int:
    """Maximum context length of the model in ``folder``, in tokens."""
    from transformers import AutoConfig  # noqa: PLC0415  seconds to import

    return max_context_tokens(AutoConfig.from_pretrained(folder, trust_remote_code=False))


def attention_width(model: Any) -> int:
    """Number of query heads times their size, summed over all layers; 0 without attention. Read from the query projections."""
    projections = [layer for name, layer in model.named_modules() if name.rpartition(".")[2] == "q_proj"]
    if widths := [layer.out_features for layer in projections if hasattr(layer, "out_features")]:
        return sum(widths)
    config = get_text_config(model).to_dict()
    heads, hidden = config.get("num_attention_heads") or 0, config.get("hidden_size") or 0
    return heads * (config.get("head_dim") or (hidden // heads if heads else 0)) * (config.get("num_hidden_layers") or 0)


def cache_width(model: Any) -> int:
    """Numbers that an engine's cache keeps of a token, summed over all layers: keys and values, or what they are computed from.

    Read from the projections; 0 where a model has none of the known names and its configuration has no heads.
    """
    names = {"k_proj", "v_proj", "kv_a_proj_with_mqa"}
    projections = [layer for name, layer in model.named_modules() if name.rpartition(".")[2] in names]
    if widths := [layer.out_features for layer in projections if hasattr(layer, "out_features")]:
        return sum(widths)
    config = get_text_config(model).to_dict()
    heads = config.get("num_attention_heads") or config.get("n_head") or 0
    hidden = config.get("hidden_size") or config.get("n_embd") or 0
    layers = config.get("num_hidden_layers") or config.get("n_layer") or 0
    size = config.get("head_dim") or (hidden // heads if heads else 0)
    return 2 * layers * (config.get("num_key_value_heads") or heads) * size


def layer_types(model: Any) -> Sequence[str]:
    """Type of each layer, such as ``full_attention`` or ``sliding_attention``."""
    config = get_text_config(model)
    types: Sequence[str] | None = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return types or ["sliding_attention" if window else "full_attention"] * config.num_hidden_layers


def attention_windows(model: Any) -> list[int | None]:
    """Sliding window of each layer: number of tokens a token attends to, itself included; None without limit."""
    window: int | None = getattr(get_text_config(model), "sliding_window", None)
    return [window if kind == "sliding_attention" else None for kind in layer_types(model)]


def embedding_scale(model: Any) -> Any:
    """Factor by which the input embedding multiplies the rows it looks up: a scalar tensor, or 1.

    Gemma scales by the square root of the hidden size.

    Raises:
        UserError: the embedding transforms its rows in another way, which a new token's row would miss.
    """
    import torch  # noqa: PLC0415  seconds to import

    from delia_ray.upstream.torch_internals import has_data  # noqa: PLC0415  imports torch

    embedding = model.get_input_embeddings()
    scale: Any = getattr(embedding, "embed_scale", 1.0)
    scale = scale.to(embedding.weight.dtype) if isinstance(scale, torch.Tensor) else scale
    if not has_data(embedding.weight):
        return scale
    ids_N = torch.arange(min(8, embedding.num_embeddings), device=embedding.weight.device)
    with torch.no_grad():
        looked_up_ND, rows_ND = type(embedding).forward(embedding, ids_N), embedding.weight[ids_N]
        if not torch.allclose(looked_up_ND, rows_ND * scale, rtol=1e-3):
            raise UserError(
                f"model: {type(model).__name__} transforms its embeddings in a way that rows of new tokens would miss; use another"
            )
    return scale


def compute_token_logits(head: Any, states_D: Any, rows_ND: Any, token_ids: Sequence[int]) -> Any:
    """[..., N] logits that ``head`` gives the tokens ``token_ids`` if their rows are ``rows_ND``."""
    import torch  # noqa: PLC0415  seconds to import

    bias_V: Any = getattr(head, "bias", None)
    return torch.nn.functional.linear(states_D, rows_ND.to(states_D.dtype), None if bias_V is None else bias_V[list(token_ids)])
