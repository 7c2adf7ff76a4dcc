"""Position of a token in the vocabulary: nearest embedding rows, ranks of words, and the logit lens of its hidden states.

Shape legend: C carriers, D dimensions, K layers, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from delia_ray.probing.tokens.schema import Ranks, VocabularyEntry
from delia_ray.probing.tokens.states import WordTokens, find_final_norm

_TOLERANCE = 1e-6
_DIGITS = 6


@torch.inference_mode()
def logit_lens(model: Any, states_CKD: Tensor) -> Iterator[Tensor]:
    """Yield for each layer the mean over carriers of the probabilities [V] that final norm and head give its states.

    At the last layer these are the model's own probabilities, unless an architecture changes its logits after the head.
    """
    norm, head = find_final_norm(model), model.get_output_embeddings()
    for layer in range(states_CKD.shape[1]):
        logits_CV = head(norm(states_CKD[:, layer].to(model.device, model.dtype)))
        yield logits_CV.float().softmax(-1).mean(0)


def summarize_lens(
    model: Any, tokenizer: Any, states_CKD: Tensor, concepts: Mapping[str, WordTokens], words: int
) -> tuple[list[list[VocabularyEntry]], dict[str, list[int]]]:
    """Summarize the logit lens: the most likely words at each layer, and each concept's rank there, that of its first vocabulary entry."""
    top: list[list[VocabularyEntry]] = []
    ranks: dict[str, list[int]] = {concept: [] for concept in concepts}
    for probability_V in logit_lens(model, states_CKD):
        probability_V = probability_V[: len(tokenizer)]
        likely = probability_V.topk(min(words, len(probability_V)))
        top.append([_make_entry(tokenizer, *pair) for pair in zip(likely.indices.tolist(), likely.values.tolist(), strict=True)])
        for concept, tokens in concepts.items():
            ranks[concept].append(1 + int((probability_V > probability_V[tokens.pieces[0]]).sum()))
    return top, ranks


@torch.inference_mode()
def row_cosines(table_VD: Tensor, row_D: Tensor) -> Tensor:
    """Compute the cosine [V] of a row with every row of a table."""
    return torch.nn.functional.cosine_similarity(table_VD.float(), row_D.float()[None], dim=-1)


def find_nearest(tokenizer: Any, cosines_V: Tensor, token_id: int, count: int) -> list[VocabularyEntry]:
    """Find the vocabulary entries with the largest cosines, without the token itself."""
    others_V = cosines_V[: len(tokenizer)].clone()
    others_V[token_id] = -torch.inf
    nearest = others_V.topk(min(count, len(others_V) - 1))
    return [_make_entry(tokenizer, *pair) for pair in zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)]


def cosine_rank(table_VD: Tensor, row_D: Tensor, token_id: int, pieces: Sequence[int], entries: int) -> int:
    """Compute the rank of a word among the first ``entries`` rows by cosine with ``row_D``; 1 is the nearest.

    A word of several pieces has the mean of their rows. The token and the pieces themselves are not counted.
    """
    cosines_V = row_cosines(table_VD[:entries], row_D)
    word_cosine = torch.nn.functional.cosine_similarity(table_VD[list(pieces)].float().mean(0), row_D.float(), dim=0)
    nearer_V = cosines_V > word_cosine + _TOLERANCE
    nearer_V[[token_id, *pieces]] = False
    return 1 + int(nearer_V.sum())


def rank_concept(model: Any, token_id: int, tokens: WordTokens, lens_ranks: list[int], entries: int) -> Ranks:
    """Rank a concept by cosine with the rows that the model has for the token now.

    Args:
        model: the model.
        token_id: the new token's.
        tokens: of the concept.
        lens_ranks: its ranks under the logit lens.
        entries: number of vocabulary entries; further rows of the embedding are padding.
    """
    tables = (model.get_input_embeddings().weight.detach(), model.get_output_embeddings().weight.detach())
    by_input, by_output = (cosine_rank(table_VD, table_VD[token_id], token_id, tokens.pieces, entries) for table_VD in tables)
    return Ranks(input=by_input, output=by_output, lens=lens_ranks)


def _make_entry(tokenizer: Any, token_id: int, value: float) -> VocabularyEntry:
    return VocabularyEntry(text=tokenizer.decode([token_id]), value=round(value, _DIGITS))
