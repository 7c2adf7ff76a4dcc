"""A causal language model as a function of its weights, and answers sampled from it.

Legend: T supervised tokens of a row, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from delia_ray.core.progress import Tally
from delia_ray.core.records import keyed_int
from delia_ray.training.data.tokens import TokenizedRow

_BATCH_SIZE = 16


class FunctionalCausalLM:
    """``FunctionalModel`` of a causal language model over tokenized rows, one at a time.

    The model is in evaluation mode, with eager attention, which can be differentiated twice.
    """

    def __init__(self, model: Any):
        model.set_attn_implementation("eager")
        self._model = model.eval()

    def logits(self, weights: Any, row: TokenizedRow) -> Tensor:
        """Compute the logits [T, V] at the positions that predict the row's supervised tokens."""
        ids_1T = torch.tensor([list(row.ids)], device=self._model.device)
        kwargs = {"input_ids": ids_1T, "use_cache": False}
        output: Any = torch.func.functional_call(self._model, weights, kwargs=kwargs)
        return output.logits[0, [position - 1 for position in _find_supervised(row)]]

    def targets(self, row: TokenizedRow) -> Tensor:
        """Return the supervised tokens [T] of the row."""
        return torch.tensor([row.ids[position] for position in _find_supervised(row)], device=self._model.device)


def _find_supervised(row: TokenizedRow) -> list[int]:
    """Find the positions of the supervised tokens; the first token of a row is not predicted."""
    return [position for position, kind in enumerate(row.kinds) if kind and position]


def sample_answers(model: Any, prompts: Sequence[Sequence[int]], max_tokens: int, stop: int, seed: int, tally: Tally) -> list[TokenizedRow]:
    """Sample the model's own answers from its full distribution: temperature 1, no top-p, no top-k.

    This is the preset ``theory`` (docs/method.md, Steps). Answers are kept as the sampled tokens; encoding the text again
    might give other tokens.

    Args:
        model: a causal language model.
        prompts: token ids, up to where the answer starts.
        max_tokens: longest answer.
        stop: id of the token that ends an answer; it is a supervised token of the answer.
        seed: seed of the sampling.
        tally: counts answers and their tokens.
    """
    from transformers import GenerationConfig  # noqa: PLC0415  seconds to import

    config: Any = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=max_tokens, eos_token_id=stop, pad_token_id=stop
    )
    rows: list[TokenizedRow] = []
    for start in range(0, len(prompts), _BATCH_SIZE):
        batch = prompts[start : start + _BATCH_SIZE]
        longest = max(map(len, batch))
        ids = torch.tensor([[stop] * (longest - len(prompt)) + list(prompt) for prompt in batch], device=model.device)
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in batch], device=model.device)
        torch.manual_seed(keyed_int(seed, "probe", str(start)))
        with torch.inference_mode():
            sampled: list[list[int]] = model.generate(ids, attention_mask=mask, generation_config=config)[:, longest:].tolist()
        for prompt, answer in zip(batch, sampled, strict=True):
            answer = answer[: answer.index(stop) + 1] if stop in answer else answer
            rows.append(TokenizedRow([*prompt, *answer], [0] * len(prompt) + [1] * len(answer), "diverse"))
            tally.add(rows=1, tokens=len(answer))
    return rows
