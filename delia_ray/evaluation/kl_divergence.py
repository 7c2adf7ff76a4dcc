"""Token-level KL divergence of a tuned model from the base model, along the base model's own answers (docs/method.md, Retention).

Shape legend: B conversations of a batch, T token positions, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from delia_ray.core.progress import Tally
from delia_ray.core.records import Message
from delia_ray.models import encode_prompt, load_model, load_tokenizer, resolve_dtype
from delia_ray.models.encoding import encode_continuation

if TYPE_CHECKING:
    import torch

Conversation: TypeAlias = tuple[Sequence[Message], str]
"""The messages before the assistant's turn, and the base model's raw greedy answer."""

_MAX_LOGITS = 2**24  # of a batch and a model: 64 MiB in single precision, whatever the vocabulary


@dataclass(frozen=True)
class _EncodedConversation:
    ids: list[int]
    """Token ids of prompt and answer."""
    first: int
    """Position that predicts the answer's first token; the last position predicts what follows the answer."""


def compute_answer_kl(base: Path, tuned: Path, conversations: Sequence[Conversation], dtype: str, tally: Tally) -> list[list[float]]:
    """Compute KL(base || tuned) in nats at each token of each answer, and at the position after it.

    The last position has the distribution over what follows the answer: the end-of-turn token, or the next token of a truncated answer.
    An answer of n tokens therefore has n + 1 values, and an empty one has 1. The KL is exact over the whole vocabulary, not a sampled
    estimate. If both folders are the same, the KL is 0 everywhere and no model runs.

    Args:
        base: folder of the base model, its vocabulary extended like the tuned model's.
        tuned: folder of the tuned model. Logits of tokens that only its vocabulary has are dropped after its log-softmax.
        conversations: prompts with the base model's answers.
        dtype: precision of the two models, ``auto | float32 | bfloat16 | float16``; the KL itself is computed in single precision.
        tally: counts conversations and answer positions.

    Returns:
        One list of KL values for each conversation.
    """
    tokenizer = load_tokenizer(base)
    encoded = [_encode_conversation(tokenizer, messages, answer) for messages, answer in conversations]
    if base.resolve() == tuned.resolve():
        tally.add(rows=len(encoded), tokens=sum(len(each.ids) - each.first for each in encoded))
        return [[0.0] * (len(each.ids) - each.first) for each in encoded]
    device = _choose_device()
    models = [load_model(folder, resolve_dtype(dtype)).eval().to(device) for folder in (base, tuned)]
    vocabulary = max(model.get_output_embeddings().weight.shape[0] for model in models)
    divergences: list[list[float]] = [[] for _ in encoded]
    for batch in _batch_by_length(encoded, max(1, _MAX_LOGITS // vocabulary)):
        for index, values in zip(batch, _compute_batch_kl(models, [encoded[index] for index in batch], device), strict=True):
            divergences[index] = values
            tally.add(rows=1, tokens=len(values))
    return divergences


def _choose_device() -> str:
    import torch  # noqa: PLC0415  seconds to import

    return "cuda" if torch.cuda.is_available() else "cpu"


def _encode_conversation(tokenizer: Any, messages: Sequence[Message], answer: str) -> _EncodedConversation:
    # Encoded separately, as they were when the model wrote the answer: encoded together, a token might span the boundary.
    prompt, answer_ids = encode_prompt(tokenizer, messages), [token for token, _ in encode_continuation(tokenizer, answer)]
    return _EncodedConversation(prompt + answer_ids, len(prompt) - 1)


def _batch_by_length(encoded: Sequence[_EncodedConversation], max_tokens: int) -> Iterator[list[int]]:
    """Yield batches of indices into ``encoded``, each of similar length and with at most ``max_tokens`` tokens, padding included.

    A longer conversation is a batch by itself.
    """
    batch: list[int] = []
    for index in sorted(range(len(encoded)), key=lambda index: len(encoded[index].ids)):
        if batch and (len(batch) + 1) * len(encoded[index].ids) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _compute_batch_kl(models: Sequence[Any], batch: Sequence[_EncodedConversation], device: str) -> list[list[float]]:
    import torch  # noqa: PLC0415  seconds to import

    longest = max(len(each.ids) for each in batch)
    ids_BT = torch.tensor([each.ids + [0] * (longest - len(each.ids)) for each in batch], device=device)
    lengths_B1 = torch.tensor([[len(each.ids)] for each in batch], device=device)
    # Padded on the right, where a causal model's attention at the real tokens does not reach.
    mask_BT = (torch.arange(longest, device=device) < lengths_B1).long()
    with torch.inference_mode():
        base_BTV, tuned_BTV = (model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits for model in models)
        spans = [slice(each.first, len(each.ids)) for each in batch]
        return [token_kl_from_logits(base_BTV[index, span], tuned_BTV[index, span]) for index, span in enumerate(spans)]


def token_kl_from_logits(base_TV: "torch.Tensor", tuned_TV: "torch.Tensor") -> list[float]:
    """``metrics.kl.token_kl`` from logits ``[T, V]``, in torch: several times as fast, with rounding errors below those of the logits."""
    base_TV, tuned_TV = base_TV.float().log_softmax(-1), tuned_TV.float().log_softmax(-1)[:, : base_TV.shape[-1]]
    probability_TV = base_TV.exp()
    log_ratio_TV = (base_TV - tuned_TV).masked_fill_(probability_TV == 0, 0.0)
    kl_T: Any = (probability_TV * log_ratio_TV).sum(-1).clamp_(min=0.0)
    return kl_T.tolist()
