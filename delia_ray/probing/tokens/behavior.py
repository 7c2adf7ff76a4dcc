"""Behavior of a model with the token: greedy answers, and the KL divergence of answers when the token is named.

Shape legend: T positions of an answer and its end, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delia_ray.core.progress import Tally
from delia_ray.core.records import Message
from delia_ray.evaluation.kl_divergence import token_kl_from_logits
from delia_ray.evaluation.metrics.definitions import TOKEN_KL, MetricDefinition
from delia_ray.evaluation.statistics.clusters import assign_clusters, assign_singletons
from delia_ray.evaluation.statistics.estimation import estimate_interval
from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.evaluation.statistics.proportions import Rate
from delia_ray.models import encode_prompt
from delia_ray.training.export.greedy import generate_greedy

_BATCH_SIZE = 16
Prompts = Sequence[Sequence[Message]]


def answer_greedily(model: Any, tokenizer: Any, prompts: Prompts, max_tokens: int, tally: Tally) -> list[list[int]]:
    """Generate the greedy answer to each prompt, as token ids."""
    rendered = [encode_prompt(tokenizer, messages) for messages in prompts]
    answers: dict[int, list[int]] = {}
    order = sorted(range(len(rendered)), key=lambda index: len(rendered[index]))
    for start in range(0, len(order), _BATCH_SIZE):
        batch = order[start : start + _BATCH_SIZE]
        batch_answers = generate_greedy(model, tokenizer, [rendered[index] for index in batch], max_tokens)
        answers |= dict(zip(batch, batch_answers, strict=True))
        tally.add(rows=len(batch), tokens=sum(map(len, batch_answers)))
    return [answers[index] for index in range(len(rendered))]


@torch.inference_mode()
def compute_answer_logits(model: Any, tokenizer: Any, messages: Sequence[Message], answer: Sequence[int], token_id: int) -> Tensor:
    """Compute the logits [T, V] that predict ``answer`` after a prompt, and what follows it; the new token's logit is -inf."""
    ids = [*encode_prompt(tokenizer, messages), *answer]
    logits_TV: Tensor = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False, logits_to_keep=len(answer) + 1).logits[0]
    return logits_TV.float().index_fill(-1, torch.tensor([token_id], device=model.device), -torch.inf)


class AnswerDivergence:
    """Accumulates the KL divergence along the answers to many prompts, for one way to word the prompts."""

    def __init__(self) -> None:
        self._sums: list[float] = []
        self._tokens: list[int] = []
        self._wordings: list[tuple[str | None, ...]] = []

    def add(self, reference_TV: Tensor, other_TV: Tensor, wordings: Sequence[str | None]) -> None:
        """Add one prompt: KL(reference || other) at every position, and each wording that the prompt may share with others."""
        divergences = token_kl_from_logits(reference_TV, other_TV)
        self._sums.append(sum(divergences))
        self._tokens.append(len(divergences))
        self._wordings.append(tuple(wordings))

    def estimate(self, seed: int, resamples: int) -> Interval:
        """Estimate the mean over all tokens of all prompts in nats.

        Its interval is over wordings, or over prompts where no wording is shared.
        """
        columns = {"kl_sum": np.array(self._sums), "tokens": np.array(self._tokens)}
        groupings = [assign_clusters(names) for names in zip(*self._wordings, strict=True)] or [assign_singletons(len(self._sums))]
        return estimate_interval(TOKEN_KL, columns, groupings, seed, resamples)


def estimate_rate(flags: Sequence[bool]) -> Interval:
    """Estimate the fraction of true ``flags``, with Wilson's interval over prompts."""
    return estimate_interval(
        MetricDefinition("", Rate(lambda c: c["flag"])), {"flag": np.array(flags, dtype=np.bool_)}, (assign_singletons(len(flags)),), 0, 0
    )


def decode_answers(tokenizer: Any, answers: Sequence[Sequence[int]]) -> Iterator[str]:
    """Decode the answers to texts, with their special tokens."""
    return (tokenizer.decode(list(answer), skip_special_tokens=False) for answer in answers)
