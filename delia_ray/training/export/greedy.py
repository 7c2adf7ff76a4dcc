"""Greedy answers of transformers.

Legend: B prompts, T positions, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from delia_ray.models import find_stop_token_ids

_CANDIDATES = 16
_BATCH_SIZE = 8
"""Logits of all positions of a batch are in memory three times: with 32 positions and a vocabulary of 256,000, 0.75 GiB."""


@dataclass(frozen=True)
class Answer:
    """A greedy answer."""

    prompt_ids: list[int]
    ids: list[int]
    """Of its tokens, with the stop token that ends it, if one does."""
    logprobs: list[float]
    """Of its tokens, in nats."""


@dataclass(frozen=True)
class ReferenceAnswer(Answer):
    """A greedy answer, and what might have been written instead."""

    candidates: Sequence[Mapping[int, float]]
    """At each position the most likely tokens: id -> logarithm of the probability, in nats."""


def generate_greedy(model: Any, tokenizer: Any, prompt_ids: Sequence[list[int]], max_tokens: int) -> list[list[int]]:
    """Generate an answer to each prompt by greedy decoding; return its token ids without the stop token."""
    stops = find_stop_token_ids(tokenizer, model.generation_config.eos_token_id)
    longest = max(map(len, prompt_ids))
    sequences_BT = _generate(model, tokenizer, prompt_ids, stops, max_tokens).sequences
    return [cut_at_stop(row[longest:].tolist(), stops) for row in sequences_BT]


def generate_reference(model: Any, tokenizer: Any, prompt_ids: Sequence[list[int]], max_tokens: int) -> list[ReferenceAnswer]:
    """Generate an answer to each prompt by greedy decoding, with the probabilities of its tokens."""
    answers: list[ReferenceAnswer] = []
    for start in range(0, len(prompt_ids), _BATCH_SIZE):
        answers += _generate_batch(model, tokenizer, prompt_ids[start : start + _BATCH_SIZE], max_tokens)
    return answers


def _generate_batch(model: Any, tokenizer: Any, prompt_ids: Sequence[list[int]], max_tokens: int) -> list[ReferenceAnswer]:
    import torch  # noqa: PLC0415  seconds to import

    stops = find_stop_token_ids(tokenizer, model.generation_config.eos_token_id)
    longest = max(map(len, prompt_ids))
    generated = _generate(model, tokenizer, prompt_ids, stops, max_tokens, output_logits=True)
    logprobs_BTV = torch.stack(generated.logits, dim=1).float().log_softmax(-1)
    top = logprobs_BTV.topk(min(_CANDIDATES, logprobs_BTV.shape[-1]), dim=-1)
    answers: list[ReferenceAnswer] = []
    for row, prompt in enumerate(prompt_ids):
        whole = generated.sequences[row, longest:].tolist()
        ids = whole[: len(cut_at_stop(whole, stops)) + 1]
        candidates = [dict(zip(top.indices[row, t].tolist(), top.values[row, t].tolist(), strict=True)) for t in range(len(ids))]
        answers.append(ReferenceAnswer(prompt, ids, [logprobs_BTV[row, t, token].item() for t, token in enumerate(ids)], candidates))
    return answers


def _generate(model: Any, tokenizer: Any, prompt_ids: Sequence[list[int]], stops: Sequence[int], max_tokens: int, **more: Any) -> Any:
    import torch  # noqa: PLC0415  seconds to import

    longest = max(map(len, prompt_ids))
    pad = stops[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id  # masked, so any id would do
    ids_BT = torch.tensor([[pad] * (longest - len(ids)) + list(ids) for ids in prompt_ids], device=model.device)
    mask_BT = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompt_ids], device=model.device)
    words: dict[str, Any] = {"return_dict_in_generate": True, "max_new_tokens": max_tokens, "do_sample": False, **more}
    with torch.inference_mode():
        return model.generate(input_ids=ids_BT, attention_mask=mask_BT, eos_token_id=stops, pad_token_id=pad, **words)


def cut_at_stop(ids: list[int], stop_token_ids: Sequence[int]) -> list[int]:
    """Cut ``ids`` before the first stop token; what follows it is padding."""
    return ids[: next((position for position, token in enumerate(ids) if token in stop_token_ids), len(ids))]
