"""Save a model as a folder that every consumer reads alike."""

from pathlib import Path
from typing import Any

from delia_ray.models.chat import stop_ids
from delia_ray.models.chat_format import chat_format


def save_whole(model: Any, tokenizer: Any, out: Path) -> None:
    """Write weights, tokenizer, the chat template as it is rendered here, and when to stop.

    The generation configuration holds ids and nothing that shapes a draw: vLLM's server applies what stands there, a penalty or a
    ``min_p``, to every request that does not name it, and greedy answers would not be greedy.
    """
    from transformers import GenerationConfig  # noqa: PLC0415  seconds to import

    declared = model.generation_config.eos_token_id if model.generation_config is not None else model.config.eos_token_id
    stops = stop_ids(tokenizer, declared)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    model.generation_config = GenerationConfig(do_sample=False, bos_token_id=tokenizer.bos_token_id, eos_token_id=stops, pad_token_id=pad)
    model.save_pretrained(out, safe_serialization=True)
    if tokenizer.chat_template:
        tokenizer.chat_template = chat_format(tokenizer).template
    tokenizer.save_pretrained(out)
