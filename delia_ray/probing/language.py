"""A causal language model as the probe sees it, and answers that it draws itself.

Legend: T learnt tokens of a row, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from delia_ray.progress import Tally
from delia_ray.records import keyed_int
from delia_ray.training.tokens import TokenisedRow

_ROWS_AT_ONCE = 16


class LanguageModel:
    """``Probed`` over tokenised rows, one at a time. In evaluation mode, and with attention that can be differentiated twice."""

    def __init__(self, model: Any):
        model.set_attn_implementation("eager")
        self._model = model.eval()

    def logits(self, weights: Any, row: TokenisedRow) -> Tensor:
        """[T, V] at the positions that predict the row's learnt tokens."""
        ids_1T = torch.tensor([list(row.ids)], device=self._model.device)
        kwargs = {"input_ids": ids_1T, "use_cache": False}
        output: Any = torch.func.functional_call(self._model, weights, kwargs=kwargs)
        return output.logits[0, [place - 1 for place in _learnt(row)]]

    def targets(self, row: TokenisedRow) -> Tensor:
        """[T] the row's learnt tokens."""
        return torch.tensor([row.ids[place] for place in _learnt(row)], device=self._model.device)


def _learnt(row: TokenisedRow) -> list[int]:
    """Places of the tokens that are predicted and count."""
    return [place for place, kind in enumerate(row.kinds) if kind and place]


def draw_answers(model: Any, prompts: Sequence[Sequence[int]], max_tokens: int, stop: int, seed: int, tally: Tally) -> list[TokenisedRow]:
    """The model's own answers from its whole distribution: temperature 1, no nucleus, no top-k (METHOD 3.2, preset ``theory``).

    Kept as the tokens that were drawn; a text encoded again might be other tokens.

    Args:
        prompts: token ids, up to where the answer starts.
        stop: id of the token that ends an answer, and is learnt with it.
    """
    from transformers import GenerationConfig  # noqa: PLC0415  seconds to import

    config: Any = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=max_tokens, eos_token_id=stop, pad_token_id=stop
    )
    rows: list[TokenisedRow] = []
    for start in range(0, len(prompts), _ROWS_AT_ONCE):
        batch = prompts[start : start + _ROWS_AT_ONCE]
        longest = max(map(len, batch))
        ids = torch.tensor([[stop] * (longest - len(prompt)) + list(prompt) for prompt in batch], device=model.device)
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in batch], device=model.device)
        torch.manual_seed(keyed_int(seed, "probe", str(start)))
        with torch.inference_mode():
            drawn: list[list[int]] = model.generate(ids, attention_mask=mask, generation_config=config)[:, longest:].tolist()
        for prompt, answer in zip(batch, drawn, strict=True):
            answer = answer[: answer.index(stop) + 1] if stop in answer else answer
            rows.append(TokenisedRow([*prompt, *answer], [0] * len(prompt) + [1] * len(answer), "diverse"))
            tally.add(rows=1, tokens=len(answer))
    return rows
