"""Models as folders: find one, load one, render its conversations, give it new tokens, save it whole."""

from delia_ray.models.chat import (
    ChatFormat,
    chat_format,
    encode,
    prompt_ids,
    prompt_text,
    stop_ids,
    user_turn_prefix,
    user_turn_stops,
    with_system,
    without_reasoning,
)
from delia_ray.models.extension import check_new_tokens, extend, first_rows, token_ids
from delia_ray.models.folders import ModelFolder, adopt_model
from delia_ray.models.loading import load_encoder, load_model, load_tokenizer, tokenizer_of
from delia_ray.models.precision import product_seconds, resolve_dtype, run_precision
from delia_ray.models.saving import save_whole

__all__ = [
    "ChatFormat",
    "ModelFolder",
    "adopt_model",
    "chat_format",
    "check_new_tokens",
    "encode",
    "extend",
    "first_rows",
    "load_encoder",
    "load_model",
    "load_tokenizer",
    "product_seconds",
    "prompt_ids",
    "prompt_text",
    "resolve_dtype",
    "run_precision",
    "save_whole",
    "stop_ids",
    "token_ids",
    "tokenizer_of",
    "user_turn_prefix",
    "user_turn_stops",
    "with_system",
    "without_reasoning",
]
