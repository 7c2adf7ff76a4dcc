"""Save a model folder that transformers, vLLM and other consumers load in the same way."""

from pathlib import Path
from typing import Any

from delia_ray.models.chat import find_stop_token_ids
from delia_ray.models.chat_format import detect_chat_format


def save_model(model: Any, tokenizer: Any, out: Path) -> None:
    """Save weights, tokenizer, the run's chat template and the stop token ids.

    The generation config contains token ids and no sampling parameters: vLLM's server applies a penalty or a ``min_p`` of that file to
    every request that does not set it, and greedy answers would not be greedy.
    """
    from transformers import GenerationConfig  # noqa: PLC0415  seconds to import

    declared = model.generation_config.eos_token_id if model.generation_config is not None else model.config.eos_token_id
    stops = find_stop_token_ids(tokenizer, declared)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    model.generation_config = GenerationConfig(do_sample=False, bos_token_id=tokenizer.bos_token_id, eos_token_id=stops, pad_token_id=pad)
    model.save_pretrained(out, safe_serialization=True)
    if tokenizer.chat_template:
        tokenizer.chat_template = detect_chat_format(tokenizer).template
    tokenizer.save_pretrained(out)
