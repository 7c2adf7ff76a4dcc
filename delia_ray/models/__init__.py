"""Model folders: resolve, load, render chat templates, add new tokens, save."""

from delia_ray.models.chat import (
    add_system_turn,
    encode_prompt,
    find_answer,
    find_stop_token_ids,
    find_user_turn_stops,
    has_special_reasoning_tokens,
    is_answer_preserved,
    render_conversation,
    render_prompt,
    render_user_turn_prefix,
)
from delia_ray.models.chat_format import ChatFormat, detect_chat_format
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.models.encoding import encode, encode_continuation
from delia_ray.models.extension import add_new_tokens, check_new_tokens, check_token_init, init_embedding_rows, token_ids
from delia_ray.models.folders import ModelFolder, adopt_model, find_model, share_model
from delia_ray.models.loading import get_tokenizer, load_encoder, load_model, load_tokenizer
from delia_ray.models.precision import choose_precision, resolve_dtype, resolve_run_precision, time_matmul
from delia_ray.models.reasoning import strip_reasoning
from delia_ray.models.saving import save_model
from delia_ray.models.template import set_template_arguments

__all__ = [
    "ChatFormat",
    "ControlTokens",
    "ModelFolder",
    "add_new_tokens",
    "add_system_turn",
    "adopt_model",
    "check_new_tokens",
    "check_token_init",
    "choose_precision",
    "detect_chat_format",
    "encode",
    "encode_continuation",
    "encode_prompt",
    "find_answer",
    "find_model",
    "find_stop_token_ids",
    "find_user_turn_stops",
    "get_tokenizer",
    "has_special_reasoning_tokens",
    "init_embedding_rows",
    "is_answer_preserved",
    "load_encoder",
    "load_model",
    "load_tokenizer",
    "render_conversation",
    "render_prompt",
    "render_user_turn_prefix",
    "resolve_dtype",
    "resolve_run_precision",
    "save_model",
    "set_template_arguments",
    "share_model",
    "strip_reasoning",
    "time_matmul",
    "token_ids",
]
