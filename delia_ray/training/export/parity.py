"""Parity of an exported model: whether vLLM, where it is served, answers as transformers does, where it was trained."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from delia_ray.training.export.greedy import Answer, ReferenceAnswer

_ROUNDING_NATS = {"float32": 0.01, "bfloat16": 0.25, "float16": 0.03, "fp8": 0.5, "bitsandbytes": 1.0}
"""Differences of a log-probability up to which rounding alone explains them, by precision, or by how the engine's weights are quantized.
SmolLM2-135M with fp8 differs by 0.11 on average and 0.4 at most."""
_TIED_NATS = _ROUNDING_NATS | {"fp8": 3.0, "bitsandbytes": 4.0}
"""How far apart two tokens may be in transformers where vLLM chose the other one: with fp8 up to 1.5 were seen, as both change."""


class ParityError(RuntimeError):
    """The exported model is not the model that was trained, or answers differently in transformers and in vLLM."""


@dataclass(frozen=True)
class Parity:
    """Comparison of greedy answers to the same conversations."""

    dtype: str
    """Precision in which both computed, or how the engine's weights were quantized."""
    prompts: int
    with_token: int
    """Prompts that hold a new token."""
    equal: int
    """Prompts that both answer with the same token ids."""
    ties: int
    """Prompts where the first tokens that differ are tied: their log-probabilities differ by no more than rounding."""
    tokens: int
    """Tokens before the first that differs, of all answers."""
    mean_difference: float
    """Mean absolute difference of the log-probabilities of these tokens, in nats."""
    largest_difference: float
    """Largest of these differences, in nats."""
    faults: tuple[str, ...]
    """A line about each thing that rounding does not explain."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, without the faults, of which a finished model has none."""
        return {name: value for name, value in asdict(self).items() if name != "faults"}


def compare(
    references: Sequence[ReferenceAnswer], answers: Sequence[Answer], new_ids: Sequence[int], dtype: str, decode: Callable[[list[int]], str]
) -> Parity:
    """Compare the greedy answers of vLLM with those of transformers.

    Args:
        dtype: precision in which both computed, such as ``bfloat16``, or how the engine's weights were quantized.
        decode: text of token ids, for what is said about differences.
    """
    rounding, equal, ties = _ROUNDING_NATS[dtype], 0, 0
    differences: list[float] = []
    faults: list[str] = []
    for reference, answer in zip(references, answers, strict=True):
        if reference.prompt_ids != answer.prompt_ids:
            faults.append(
                f"vLLM renders a conversation as {decode(answer.prompt_ids)!r}, the tokenizer as {decode(reference.prompt_ids)!r}"
            )
            continue
        first = _find_difference(reference.ids, answer.ids)
        shared = len(reference.ids) if first is None else first
        differences += [abs(a - b) for a, b in zip(reference.logprobs[:shared], answer.logprobs[:shared], strict=True)]
        equal += first is None
        if first is not None and _is_tied(reference, answer, first, _TIED_NATS[dtype]):
            ties += 1
        elif first is not None:
            faults.append(f"transformers wrote {decode(reference.ids)!r}, vLLM wrote {decode(answer.ids)!r}")
    mean, largest = sum(differences) / max(1, len(differences)), max(differences, default=0.0)
    if not mean <= rounding:  # also where a model diverged to NaN
        faults.append(
            f"the log-probabilities of the same tokens differ by {mean:.3f} nats on average, where rounding explains {rounding:g}"
        )
    with_token = sum(bool({*new_ids} & {*reference.prompt_ids}) for reference in references)
    return Parity(dtype, len(references), with_token, equal, ties, len(differences), mean, largest, tuple(faults))


def _find_difference(left: list[int], right: list[int]) -> int | None:
    """Find the first position where two answers differ, also where only one has ended; None if they are equal."""
    if left == right:
        return None
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def _is_tied(reference: ReferenceAnswer, answer: Answer, position: int, most: float) -> bool:
    """Whether transformers, too, could have written vLLM's token at the first position where the answers differ."""
    if position >= min(len(reference.ids), len(answer.ids)):
        return False
    candidates = reference.candidates[position]
    other = candidates.get(answer.ids[position])
    return other is not None and abs(candidates[reference.ids[position]] - other) <= most
