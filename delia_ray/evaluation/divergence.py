"""How far tuning moved the model's next-token distributions along the start model's own answers (METHOD 4, Retention).

Shape legend: B rows of a batch, T token positions, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from delia_ray.models import load_model, load_tokenizer, prompt_ids, resolve_dtype
from delia_ray.models.encoding import encode_after
from delia_ray.progress import Tally
from delia_ray.records import Message

if TYPE_CHECKING:
    import torch

Conversation: TypeAlias = tuple[Sequence[Message], str]
"""The turns up to the assistant's, and the start model's raw greedy answer."""

_CELLS_AT_ONCE = 2**24  # logits of a batch and a model: 64 MiB in single precision, whatever the vocabulary


@dataclass(frozen=True)
class _Row:
    ids: list[int]
    """Token ids of prompt and answer."""
    first: int
    """Position that predicts the answer's first token; the last position predicts what follows the answer."""


def token_divergences(base: Path, tuned: Path, conversations: Sequence[Conversation], dtype: str, tally: Tally) -> list[list[float]]:
    """KL(base || tuned) in nats at each token of each answer and at the end after it.

    The end is the distribution over what follows the answer: the end-of-turn token, or the next token of an answer that was cut.
    So an answer of n tokens has n + 1 values, and an empty one has 1. Exact over the whole vocabulary, not estimated from samples.
    A folder against itself is 0 everywhere and is not run through the model.

    Args:
        base: folder of the start model, its vocabulary extended like the tuned model's.
        tuned: folder of the tuned model. Rows that only its vocabulary has are cut after its log-softmax.
        conversations: what to follow.
        dtype: precision of the two models, ``auto | float32 | bfloat16 | float16``; the comparison itself is in single precision.
        tally: counts conversations and answer positions.
    """
    tokenizer = load_tokenizer(base)
    rows = [_row(tokenizer, messages, answer) for messages, answer in conversations]
    if base.samefile(tuned):
        tally.add(rows=len(rows), tokens=sum(len(row.ids) - row.first for row in rows))
        return [[0.0] * (len(row.ids) - row.first) for row in rows]
    device = _device()
    models = [load_model(folder, resolve_dtype(dtype)).eval().to(device) for folder in (base, tuned)]
    vocabulary = max(model.get_output_embeddings().weight.shape[0] for model in models)
    divergences: list[list[float]] = [[] for _ in rows]
    for batch in _batches(rows, max(1, _CELLS_AT_ONCE // vocabulary)):
        for index, values in zip(batch, _batch_divergences(models, [rows[index] for index in batch], device), strict=True):
            divergences[index] = values
            tally.add(rows=1, tokens=len(values))
    return divergences


def _device() -> str:
    import torch  # noqa: PLC0415  seconds to import

    return "cuda" if torch.cuda.is_available() else "cpu"


def _row(tokenizer: Any, messages: Sequence[Message], answer: str) -> _Row:
    # Apart, as they were when the model wrote the answer: encoded together, a token might span the boundary.
    prompt, written = prompt_ids(tokenizer, messages), [token for token, _ in encode_after(tokenizer, answer)]
    return _Row(prompt + written, len(prompt) - 1)


def _batches(rows: Sequence[_Row], max_tokens: int) -> Iterator[list[int]]:
    """Indices of ``rows`` of like length, so that no batch has more than ``max_tokens`` with its padding; a longer row goes alone."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: len(rows[index].ids)):
        if batch and (len(batch) + 1) * len(rows[index].ids) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _batch_divergences(models: Sequence[Any], rows: Sequence[_Row], device: str) -> list[list[float]]:
    import torch  # noqa: PLC0415  seconds to import

    longest = max(len(row.ids) for row in rows)
    ids_BT = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows], device=device)
    lengths_B1 = torch.tensor([[len(row.ids)] for row in rows], device=device)
    # Padded on the right, which a causal model cannot see from the left.
    mask_BT = (torch.arange(longest, device=device) < lengths_B1).long()
    with torch.inference_mode():
        base_BTV, tuned_BTV = (model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits for model in models)
        spans = [slice(row.first, len(row.ids)) for row in rows]
        return [kl_of_logits(base_BTV[place, span], tuned_BTV[place, span]) for place, span in enumerate(spans)]


def kl_of_logits(base_TV: "torch.Tensor", tuned_TV: "torch.Tensor") -> list[float]:
    """``retention.kl_tokens`` from logits ``[T, V]``, in torch: several times as fast, and rounded less than the logits are."""
    base_TV, tuned_TV = base_TV.float().log_softmax(-1), tuned_TV.float().log_softmax(-1)[:, : base_TV.shape[-1]]
    mass_TV = base_TV.exp()
    ratio_TV = (base_TV - tuned_TV).masked_fill_(mass_TV == 0, 0.0)
    kl_T: Any = (mass_TV * ratio_TV).sum(-1).clamp_(min=0.0)
    return kl_T.tolist()
