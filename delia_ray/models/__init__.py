"""Models as folders: find one, load one, render its conversations, give it new tokens, save it whole."""

from delia_ray.models.chat import (
    answer_place,
    hides_reasoning,
    keeps_answer,
    prompt_ids,
    prompt_text,
    render,
    stop_ids,
    user_turn_prefix,
    user_turn_stops,
    with_system,
)
from delia_ray.models.chat_format import ChatFormat, chat_format
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.models.encoding import encode, encode_after
from delia_ray.models.extension import check_new_tokens, check_token_init, extend, first_rows, token_ids
from delia_ray.models.folders import ModelFolder, adopt_model
from delia_ray.models.loading import load_encoder, load_model, load_tokenizer, tokenizer_of
from delia_ray.models.precision import product_seconds, resolve_dtype, run_precision
from delia_ray.models.reasoning import without_reasoning
from delia_ray.models.saving import save_whole
from delia_ray.models.template import set_arguments

__all__ = [
    "ChatFormat",
    "ControlTokens",
    "ModelFolder",
    "adopt_model",
    "answer_place",
    "chat_format",
    "check_new_tokens",
    "check_token_init",
    "encode",
    "encode_after",
    "extend",
    "first_rows",
    "hides_reasoning",
    "keeps_answer",
    "load_encoder",
    "load_model",
    "load_tokenizer",
    "product_seconds",
    "prompt_ids",
    "prompt_text",
    "render",
    "resolve_dtype",
    "run_precision",
    "save_whole",
    "set_arguments",
    "stop_ids",
    "token_ids",
    "tokenizer_of",
    "user_turn_prefix",
    "user_turn_stops",
    "with_system",
    "without_reasoning",
]
