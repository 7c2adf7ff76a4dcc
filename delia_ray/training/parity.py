"""Does the exported folder write the same in transformers, where it was trained, and in vLLM, where it is served?

The only importer of vLLM in this folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delia_ray.models import load_model, load_tokenizer, stop_ids

if TYPE_CHECKING:
    import torch

_TIE = {"torch.float32": 0.01, "torch.bfloat16": 0.25, "torch.float16": 0.03}
"""Logit gaps below which rounding alone may turn a greedy choice, by precision."""


@dataclass(frozen=True)
class Parity:
    """Outcome of comparing greedy answers."""

    equal: int
    """Prompts with the same token ids."""
    ties: int
    """Prompts whose first difference is between two tokens that rounding cannot tell apart."""
    different: tuple[str, ...]
    """For each other prompt, a line that shows both texts."""


def compare(folder: Path, prompt_ids: Sequence[list[int]], max_tokens: int, dtype: "torch.dtype", engine_kwargs: dict[str, Any]) -> Parity:
    """Answer prompts greedily in both stacks and compare the token ids."""
    tokenizer, model = load_tokenizer(folder), load_model(folder, dtype).eval()
    ours = greedy_answers(model, tokenizer, prompt_ids, max_tokens)
    stops = stop_ids(tokenizer, model.generation_config.eos_token_id)
    theirs = [until_stop(ids, stops) for ids in _vllm_answers(folder, prompt_ids, max_tokens, engine_kwargs)]
    equal, ties, different = 0, 0, list[str]()
    for prompt, left, right in zip(prompt_ids, ours, theirs, strict=True):
        if left == right:
            equal += 1
        elif _gap_at_difference(model, prompt, left, right) <= _TIE[str(dtype)]:
            ties += 1
        else:
            different.append(f"transformers wrote {tokenizer.decode(left)!r}, vLLM wrote {tokenizer.decode(right)!r}")
    return Parity(equal, ties, tuple(different))


def greedy_answers(model: Any, tokenizer: Any, prompt_ids: Sequence[list[int]], max_tokens: int) -> list[list[int]]:
    """Token ids of what ``model`` answers to each prompt, without the token that ends an answer."""
    import torch  # noqa: PLC0415  seconds to import

    longest, stops = max(map(len, prompt_ids)), stop_ids(tokenizer, model.generation_config.eos_token_id)
    pad = stops[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id  # masked, whatever it is
    ids_BT = torch.tensor([[pad] * (longest - len(ids)) + list(ids) for ids in prompt_ids], device=model.device)
    mask_BT = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompt_ids], device=model.device)
    with torch.inference_mode():
        output = model.generate(
            ids_BT, attention_mask=mask_BT, max_new_tokens=max_tokens, do_sample=False, eos_token_id=stops, pad_token_id=pad
        )
    return [until_stop(row[longest:].tolist(), stops) for row in output]


def until_stop(ids: list[int], stops: Sequence[int]) -> list[int]:
    """``ids`` through the first stop token, the stop token left out: what follows it is padding."""
    return ids[: next((place for place, token in enumerate(ids) if token in stops), len(ids))]


def _vllm_answers(folder: Path, prompt_ids: Sequence[list[int]], max_tokens: int, engine_kwargs: dict[str, Any]) -> list[list[int]]:
    from vllm import LLM, SamplingParams  # noqa: PLC0415  ten seconds to import
    from vllm.inputs import TokensPrompt  # noqa: PLC0415

    llm = LLM(model=str(folder), **engine_kwargs)
    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
    outputs = llm.generate([TokensPrompt(prompt_token_ids=ids) for ids in prompt_ids], sampling, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def _gap_at_difference(model: Any, prompt: list[int], left: list[int], right: list[int]) -> float:
    """Logit gap, in transformers, between the two tokens at the first place where the answers differ; infinite if one just stops."""
    import torch  # noqa: PLC0415  seconds to import

    place = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
    if place is None:
        return float("inf")
    with torch.inference_mode():
        logits_V = model(input_ids=torch.tensor([prompt + left[:place]], device=model.device)).logits[0, -1].float()
    return abs((logits_V[left[place]] - logits_V[right[place]]).item())
