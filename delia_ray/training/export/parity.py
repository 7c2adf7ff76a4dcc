"""Parity check of an exported model: greedy answers in transformers, where it was trained, and in vLLM, where it is served.

The only module of this package that imports vLLM.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delia_ray.models import find_stop_token_ids, load_model, load_tokenizer

if TYPE_CHECKING:
    import torch

_MAX_TIE_GAP = {"torch.float32": 0.01, "torch.bfloat16": 0.25, "torch.float16": 0.03}
"""Logit gaps up to which rounding alone may change a greedy choice, by precision."""


@dataclass(frozen=True)
class Parity:
    """Result of comparing the greedy answers of transformers and vLLM."""

    equal: int
    """Prompts that both answer with the same token ids."""
    ties: int
    """Prompts where the first differing tokens are tied: their logits differ by no more than rounding."""
    different: tuple[str, ...]
    """A line with both texts for each other prompt."""


def compare_greedy_answers(
    folder: Path, prompt_ids: Sequence[list[int]], max_tokens: int, dtype: "torch.dtype", engine_kwargs: dict[str, Any]
) -> Parity:
    """Answer prompts greedily in transformers and in vLLM and compare the token ids."""
    tokenizer, model = load_tokenizer(folder), load_model(folder, dtype).eval()
    transformers_answers = generate_greedy(model, tokenizer, prompt_ids, max_tokens)
    stop_token_ids = find_stop_token_ids(tokenizer, model.generation_config.eos_token_id)
    vllm_answers = [cut_at_stop(ids, stop_token_ids) for ids in _generate_with_vllm(folder, prompt_ids, max_tokens, engine_kwargs)]
    equal, ties, different = 0, 0, list[str]()
    for prompt, left, right in zip(prompt_ids, transformers_answers, vllm_answers, strict=True):
        if left == right:
            equal += 1
        elif _logit_gap_at_difference(model, prompt, left, right) <= _MAX_TIE_GAP[str(dtype)]:
            ties += 1
        else:
            different.append(f"transformers wrote {tokenizer.decode(left)!r}, vLLM wrote {tokenizer.decode(right)!r}")
    return Parity(equal, ties, tuple(different))


def generate_greedy(model: Any, tokenizer: Any, prompt_ids: Sequence[list[int]], max_tokens: int) -> list[list[int]]:
    """Generate an answer to each prompt by greedy decoding; return its token ids without the stop token."""
    import torch  # noqa: PLC0415  seconds to import

    longest, stop_token_ids = max(map(len, prompt_ids)), find_stop_token_ids(tokenizer, model.generation_config.eos_token_id)
    pad = stop_token_ids[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id  # masked, so any id would do
    ids_BT = torch.tensor([[pad] * (longest - len(ids)) + list(ids) for ids in prompt_ids], device=model.device)
    mask_BT = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompt_ids], device=model.device)
    with torch.inference_mode():
        output = model.generate(
            ids_BT, attention_mask=mask_BT, max_new_tokens=max_tokens, do_sample=False, eos_token_id=stop_token_ids, pad_token_id=pad
        )
    return [cut_at_stop(row[longest:].tolist(), stop_token_ids) for row in output]


def cut_at_stop(ids: list[int], stop_token_ids: Sequence[int]) -> list[int]:
    """Cut ``ids`` before the first stop token; what follows it is padding."""
    return ids[: next((position for position, token in enumerate(ids) if token in stop_token_ids), len(ids))]


def _generate_with_vllm(folder: Path, prompt_ids: Sequence[list[int]], max_tokens: int, engine_kwargs: dict[str, Any]) -> list[list[int]]:
    from vllm import LLM, SamplingParams  # noqa: PLC0415  ten seconds to import
    from vllm.inputs import TokensPrompt  # noqa: PLC0415

    llm = LLM(model=str(folder), **engine_kwargs)
    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
    outputs = llm.generate([TokensPrompt(prompt_token_ids=ids) for ids in prompt_ids], sampling, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def _logit_gap_at_difference(model: Any, prompt: list[int], left: list[int], right: list[int]) -> float:
    """Logit gap, in transformers, between the two tokens at the first position where the answers differ; infinite if one just stops."""
    import torch  # noqa: PLC0415  seconds to import

    position = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
    if position is None:
        return float("inf")
    with torch.inference_mode():
        logits_V = model(input_ids=torch.tensor([prompt + left[:position]], device=model.device)).logits[0, -1].float()
    return abs((logits_V[left[position]] - logits_V[right[position]]).item())
