"""Greedy answers of vLLM from an exported model, with or without an adapter. The only module of this package that imports vLLM."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from delia_ray.core.records import Message
from delia_ray.models import load_tokenizer
from delia_ray.models.exported import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from delia_ray.training.export.greedy import Answer

Conversations = Sequence[Sequence[Message]]


def generate_with_vllm(
    folder: Path, conversations: Conversations, max_tokens: int, engine_kwargs: dict[str, Any], adapter: Path | None = None
) -> list[Answer]:
    """Generate a greedy answer to each conversation, as vLLM's server would: it renders them by itself.

    Args:
        adapter: over the model of ``folder``.
    """
    from vllm import LLM, SamplingParams  # noqa: PLC0415  ten seconds to import
    from vllm.lora.request import LoRARequest  # noqa: PLC0415

    llm: Any = LLM(model=str(folder), **engine_kwargs)
    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens, logprobs=0)
    chats: Any = [list(messages) for messages in conversations]
    request = None if adapter is None else LoRARequest("adapter", 1, str(adapter))
    outputs = llm.chat(chats, sampling, use_tqdm=False, lora_request=request)
    answers: list[Answer] = []
    for output in outputs:
        ids = list(output.outputs[0].token_ids)
        logprobs: list[float] = [position[token].logprob for position, token in zip(output.outputs[0].logprobs or (), ids, strict=True)]
        answers.append(Answer(list(output.prompt_token_ids or ()), ids, logprobs))
    return answers


def explain_unserved(folder: Path, adapter: Path) -> str | None:
    """Explain why vLLM does not serve an adapter over the model of ``folder``; None if it does."""
    from delia_ray.upstream.vllm_lora import LORA_RANKS, explain_unsupported  # noqa: PLC0415  imports all of vLLM

    config = json.loads((adapter / ADAPTER_CONFIG).read_text())
    if config["r"] > max(LORA_RANKS):
        return f"vLLM takes adapters of rank {max(LORA_RANKS)} at most, and this one has {config['r']}"
    architecture: str = json.loads((folder / "config.json").read_text())["architectures"][0]
    with safe_open(adapter / ADAPTER_WEIGHTS, "numpy") as weights:
        adapts_embeddings = any("lora_embedding_A" in name for name in weights.keys())
    return explain_unsupported(architecture, adapts_embeddings=adapts_embeddings)


def read_stop_token_ids(folder: Path) -> list[int]:
    """Read which tokens end an answer of vLLM: those of the generation config, and the tokenizer's."""
    file = folder / "generation_config.json"
    declared: int | list[int] | None = json.loads(file.read_text()).get("eos_token_id") if file.exists() else None
    ids = [declared] if isinstance(declared, int) else declared or []
    return sorted({*ids, load_tokenizer(folder).eos_token_id} - {None})
