"""What a model does with the token: how far its answers move when it is named, and what it says about it.

Shape legend: T positions of an answer and its end, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.evaluation.clusters import codes_of, single
from delia_ray.evaluation.divergence import kl_of_logits
from delia_ray.evaluation.estimation import estimate
from delia_ray.evaluation.measures import TOKEN_KL, Measure
from delia_ray.evaluation.proportions import Rate
from delia_ray.models import prompt_ids
from delia_ray.progress import Tally
from delia_ray.records import Message
from delia_ray.training.parity import greedy_answers

_ROWS_AT_ONCE = 16
Prompts = Sequence[Sequence[Message]]


def greedy(model: Any, tokenizer: Any, prompts: Prompts, max_tokens: int, tally: Tally) -> list[list[int]]:
    """Token ids of the greedy answer to each prompt."""
    rendered = [prompt_ids(tokenizer, messages) for messages in prompts]
    answers: dict[int, list[int]] = {}
    order = sorted(range(len(rendered)), key=lambda index: len(rendered[index]))
    for start in range(0, len(order), _ROWS_AT_ONCE):
        batch = order[start : start + _ROWS_AT_ONCE]
        found = greedy_answers(model, tokenizer, [rendered[index] for index in batch], max_tokens)
        answers |= dict(zip(batch, found, strict=True))
        tally.add(rows=len(batch), tokens=sum(map(len, found)))
    return [answers[index] for index in range(len(rendered))]


@torch.inference_mode()
def answer_logits(model: Any, tokenizer: Any, messages: Sequence[Message], answer: Sequence[int], token_id: int) -> Tensor:
    """[T, V] that predict ``answer`` after a prompt, and what follows it; the token itself is impossible."""
    ids = [*prompt_ids(tokenizer, messages), *answer]
    logits_TV: Tensor = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False, logits_to_keep=len(answer) + 1).logits[0]
    return logits_TV.float().index_fill(-1, torch.tensor([token_id], device=model.device), -torch.inf)


class Shifts:
    """Summed KL of each prompt's answer, for one way to word the prompt."""

    def __init__(self) -> None:
        self._sums: list[float] = []
        self._tokens: list[int] = []
        self._wordings: list[tuple[str | None, ...]] = []

    def add(self, reference_TV: Tensor, other_TV: Tensor, wordings: Sequence[str | None]) -> None:
        """One prompt: KL(reference || other) at every position, and each wording that the prompt may share with others."""
        found = kl_of_logits(reference_TV, other_TV)
        self._sums.append(sum(found))
        self._tokens.append(len(found))
        self._wordings.append(tuple(wordings))

    def estimate(self, seed: int, resamples: int) -> Interval:
        """Mean over all tokens of all prompts in nats, with its interval over wordings, or over prompts where none is shared."""
        columns = {"kl_sum": np.array(self._sums), "tokens": np.array(self._tokens)}
        groupings = [codes_of(names) for names in zip(*self._wordings, strict=True)] or [single(len(self._sums))]
        return estimate(TOKEN_KL, columns, groupings, seed, resamples)


def share(flags: Sequence[bool]) -> Interval:
    """How many of the answers, with Wilson's interval over prompts."""
    return estimate(Measure("", Rate(lambda c: c["flag"])), {"flag": np.array(flags, dtype=np.bool_)}, (single(len(flags)),), 0, 0)


def decoded(tokenizer: Any, answers: Sequence[Sequence[int]]) -> Iterator[str]:
    """The answers as texts, special tokens left in."""
    return (tokenizer.decode(list(answer), skip_special_tokens=False) for answer in answers)
