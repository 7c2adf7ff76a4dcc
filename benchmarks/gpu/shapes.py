"""Models to measure: the sizes of published ones, written out, with random weights that are drawn on the device."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, MistralConfig, Qwen2Config


def _llama_3_8b() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        max_position_embeddings=8192, rms_norm_eps=1e-5, tie_word_embeddings=False, rope_parameters=_rope(500_000.0),
    )  # fmt: skip


def _llama_3_2_1b() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
        head_dim=64, max_position_embeddings=8192, rms_norm_eps=1e-5, tie_word_embeddings=True, rope_parameters=_rope(500_000.0),
    )  # fmt: skip


def _mistral_7b() -> MistralConfig:
    return MistralConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        sliding_window=4096, max_position_embeddings=32768, rms_norm_eps=1e-5, tie_word_embeddings=False, rope_parameters=_rope(10_000.0),
    )  # fmt: skip


def _gemma_7b() -> GemmaConfig:
    return GemmaConfig(
        vocab_size=256000, hidden_size=3072, intermediate_size=24576, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=16,
        head_dim=256, max_position_embeddings=8192, rms_norm_eps=1e-6, tie_word_embeddings=True, rope_parameters=_rope(10_000.0),
    )  # fmt: skip


def _qwen2_5_7b() -> Qwen2Config:
    return Qwen2Config(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
        max_position_embeddings=32768, rms_norm_eps=1e-6, tie_word_embeddings=False, rope_parameters=_rope(1_000_000.0),
    )  # fmt: skip


def _rope(theta: float) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta}


SHAPES: dict[str, Callable[[], Any]] = {
    "llama-3-8b": _llama_3_8b,
    "gemma-7b": _gemma_7b,
    "mistral-7b": _mistral_7b,
    "qwen2.5-7b": _qwen2_5_7b,
    "llama-3.2-1b": _llama_3_2_1b,
}
_TINY = {
    "vocab_size": 640, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "max_position_embeddings": 512,
    "initializer_range": 0.3,  # so that losses depend on what is attended to
}  # fmt: skip
_TINY_HEAD_SIZE, _TINY_WINDOW = 16, 8


def build_model_config(name: str, *, tiny: bool = False) -> Any:
    """Build the configuration of a shape.

    Args:
        tiny: whether to keep only its architecture and its number of queries to a key, as a CPU can train it in a second.
    """
    config = SHAPES[name]()
    if not tiny:
        return config
    groups, window = config.num_attention_heads // config.num_key_value_heads, getattr(config, "sliding_window", None)
    sizes = {**_TINY, "num_attention_heads": 2 * groups, "num_key_value_heads": 2, "head_dim": _TINY_HEAD_SIZE}
    of_full_size = {key: value for key, value in config.to_dict().items() if key != "layer_types"}  # follow from the number of layers
    return type(config).from_dict({**of_full_size, **sizes, **({"sliding_window": _TINY_WINDOW} if window else {})})


def build_model(config: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Build the model of ``config`` with random weights, drawn in ``dtype`` on ``device``."""
    torch.manual_seed(0)
    with device:
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def count_parameters(name: str) -> int:
    """Number of parameters of a shape; a tied matrix counts once."""
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(build_model_config(name))
    return sum(parameter.numel() for parameter in model.parameters())
