"""An exact draw from each row's nucleus that sorts a few hundred candidates where others sort the vocabulary.

The nucleus of top-p sampling (Holtzman et al., arXiv 1904.09751) nearly always fits into the largest few hundred logits, and
with the normaliser of the whole vocabulary these alone decide which tokens belong to it. A row whose nucleus does not fit is
sorted whole; where the nucleus is the vocabulary, only a row whose draw does not fall among the candidates. The draw inverts
the cumulative distribution at one number that follows from the row's seed and position, so a row draws the same whatever else
is in its batch.
Legend: B rows, V vocabulary, C candidates.
"""

import torch
from torch import Tensor

from delia_ray.records import keyed_int

CANDIDATES = 256


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    return (keyed_int(seed, "draw", str(position)) >> 10) / 2**53


def draw(logits_BV: Tensor, temperature_B: Tensor, top_p_B: Tensor, uniform_B: Tensor, candidates: int = CANDIDATES) -> Tensor:
    """[B] token ids drawn from the nuclei.

    Args:
        logits_BV: float32, before temperature; -inf rules a token out.
        temperature_B: float64, above 0.
        top_p_B: float64 in (0, 1].
        uniform_B: float64 in [0, 1), one number a draw.
        candidates: largest logits to look at before a row is sorted whole; changes the cost, never the draw.
    """
    probability_BV = (logits_BV / temperature_B[:, None].float()).softmax(-1)
    ids_BC = logits_BV.topk(min(candidates, logits_BV.shape[-1])).indices
    mass_BC = probability_BV.gather(-1, ids_BC).double()
    drawn_B = _invert(mass_BC, ids_BC, top_p_B, uniform_B)
    # With nothing cut off, it is enough that the number falls among the candidates.
    outside_B = mass_BC.sum(-1) < torch.where(top_p_B < 1, top_p_B, uniform_B)
    if outside_B.any():
        ids_XV = logits_BV[outside_B].argsort(descending=True)
        mass_XV = probability_BV[outside_B].gather(-1, ids_XV).double()
        drawn_B[outside_B] = _invert(mass_XV, ids_XV, top_p_B[outside_B], uniform_B[outside_B])
    return drawn_B


def kept(mass_BC: Tensor, top_p_B: Tensor) -> Tensor:
    """[B, C] whether each token of descending ``mass_BC`` is in the nucleus: what lies above it is less than ``top_p_B``."""
    above_BC = mass_BC.cumsum(-1) - mass_BC
    return above_BC < top_p_B[:, None]


def _invert(mass_BC: Tensor, ids_BC: Tensor, top_p_B: Tensor, uniform_B: Tensor) -> Tensor:
    kept_BC = kept(mass_BC, top_p_B)
    reached_BC = (mass_BC * kept_BC).cumsum(-1)
    total_B1 = torch.where(top_p_B[:, None] < 1, reached_BC[:, -1:], 1.0)
    place_B1 = (reached_BC <= uniform_B[:, None] * total_B1).sum(-1, keepdim=True)
    last_B1 = (kept_BC & (mass_BC > 0)).sum(-1, keepdim=True) - 1  # rounding may put the number at the very end
    return ids_BC.gather(-1, torch.minimum(place_B1, last_B1)).squeeze(-1)
