"""Where a token lies in the vocabulary: by its rows, and by what the model's head makes of its states.

Shape legend: C carriers, D dimensions, K layers, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from delia_ray.probing.token_schema import Ranks, Word
from delia_ray.probing.token_states import Tail, final_norm

_TOLERANCE = 1e-6
_DIGITS = 6


@torch.inference_mode()
def lens(model: Any, states_CKD: Tensor) -> Iterator[Tensor]:
    """For each layer ``[V]``: the mean over carriers of the probabilities that final norm and head give its states (logit lens).

    At the last layer these are the model's own, but for what an architecture does to its logits after the head.
    """
    norm, head = final_norm(model), model.get_output_embeddings()
    for layer in range(states_CKD.shape[1]):
        logits_CV = head(norm(states_CKD[:, layer].to(model.device, model.dtype)))
        yield logits_CV.float().softmax(-1).mean(0)


def lens_view(
    model: Any, tokenizer: Any, states_CKD: Tensor, concepts: Mapping[str, Tail], words: int
) -> tuple[list[list[Word]], dict[str, list[int]]]:
    """The likeliest words at each layer, and each concept's place there: that of its first vocabulary entry."""
    top: list[list[Word]] = []
    places: dict[str, list[int]] = {concept: [] for concept in concepts}
    for probability_V in lens(model, states_CKD):
        probability_V = probability_V[: len(tokenizer)]
        found = probability_V.topk(min(words, len(probability_V)))
        top.append([_word(tokenizer, *pair) for pair in zip(found.indices.tolist(), found.values.tolist(), strict=True)])
        for concept, tail in concepts.items():
            places[concept].append(1 + int((probability_V > probability_V[tail.pieces[0]]).sum()))
    return top, places


@torch.inference_mode()
def row_cosines(table_VD: Tensor, row_D: Tensor) -> Tensor:
    """[V] cosine of a row with every row of a table."""
    return torch.nn.functional.cosine_similarity(table_VD.float(), row_D.float()[None], dim=-1)


def nearest(tokenizer: Any, cosines_V: Tensor, token_id: int, count: int) -> list[Word]:
    """The vocabulary entries with the largest cosine, the token itself left out."""
    others_V = cosines_V[: len(tokenizer)].clone()
    others_V[token_id] = -torch.inf
    found = others_V.topk(min(count, len(others_V) - 1))
    return [_word(tokenizer, *pair) for pair in zip(found.indices.tolist(), found.values.tolist(), strict=True)]


def row_rank(table_VD: Tensor, row_D: Tensor, token_id: int, pieces: Sequence[int], entries: int) -> int:
    """The place of a word among the first ``entries`` rows by cosine with ``row_D``; 1 is the nearest.

    A word of several pieces has the mean of their rows. The token and the pieces themselves are not counted.
    """
    cosines_V = row_cosines(table_VD[:entries], row_D)
    own = torch.nn.functional.cosine_similarity(table_VD[list(pieces)].float().mean(0), row_D.float(), dim=0)
    nearer_V = cosines_V > own + _TOLERANCE
    nearer_V[[token_id, *pieces]] = False
    return 1 + int(nearer_V.sum())


def ranks(model: Any, token_id: int, tail: Tail, places: list[int], entries: int) -> Ranks:
    """A concept's places by the rows that the model has for the token now."""
    tables = (model.get_input_embeddings().weight.detach(), model.get_output_embeddings().weight.detach())
    by_input, by_output = (row_rank(table_VD, table_VD[token_id], token_id, tail.pieces, entries) for table_VD in tables)
    return Ranks(input=by_input, output=by_output, lens=places)


def _word(tokenizer: Any, place: int, value: float) -> Word:
    return Word(text=tokenizer.decode([place]), value=round(value, _DIGITS))
