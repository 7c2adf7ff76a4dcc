"""Exact top-p sampling that sorts a few hundred candidates instead of the vocabulary.

The nucleus of top-p sampling (Holtzman et al., arXiv 1904.09751) nearly always fits into the largest few hundred logits, and
with the normalizer of the whole vocabulary these alone decide which tokens belong to it. The whole vocabulary is sorted only for
a row whose nucleus does not fit, or, at top-p 1, whose sampled token is not among the candidates. Sampling inverts the cumulative
distribution at one number that is a function of the row's seed and position, so the result does not depend on the rest of the batch.
Legend: B rows, V vocabulary, C candidates, X rows that are sorted whole.
"""

import torch
from torch import Tensor

from delia_ray.core.records import keyed_int

CANDIDATES = 256


def uniform(seed: int, position: int) -> float:
    """Uniform random number in [0, 1), a function of its arguments alone."""
    return (keyed_int(seed, "draw", str(position)) >> 10) / 2**53


def sample_top_p(logits_BV: Tensor, temperature_B: Tensor, top_p_B: Tensor, uniform_B: Tensor, candidates: int = CANDIDATES) -> Tensor:
    """Sample a token id from each row's nucleus: [B].

    Args:
        logits_BV: float32, before temperature; -inf excludes a token.
        temperature_B: float64, above 0.
        top_p_B: float64 in (0, 1].
        uniform_B: float64 in [0, 1), one number a row.
        candidates: largest logits to consider before a row is sorted whole; changes the cost, never the result.
    """
    probability_BV = (logits_BV / temperature_B[:, None].float()).softmax(-1)
    ids_BC = logits_BV.topk(min(candidates, logits_BV.shape[-1])).indices
    mass_BC = probability_BV.gather(-1, ids_BC).double()
    sampled_B = _invert_cdf(mass_BC, ids_BC, top_p_B, uniform_B)
    # At top-p 1 it is enough that the sampled token is among the candidates.
    outside_B = mass_BC.sum(-1) < torch.where(top_p_B < 1, top_p_B, uniform_B)
    if outside_B.any():
        ids_XV = logits_BV[outside_B].argsort(descending=True)
        mass_XV = probability_BV[outside_B].gather(-1, ids_XV).double()
        sampled_B[outside_B] = _invert_cdf(mass_XV, ids_XV, top_p_B[outside_B], uniform_B[outside_B])
    return sampled_B


def nucleus_mask(mass_BC: Tensor, top_p_B: Tensor) -> Tensor:
    """[B, C] whether each token is in the nucleus: the mass of the tokens before it in descending ``mass_BC`` is below ``top_p_B``."""
    above_BC = mass_BC.cumsum(-1) - mass_BC
    return above_BC < top_p_B[:, None]


def _invert_cdf(mass_BC: Tensor, ids_BC: Tensor, top_p_B: Tensor, uniform_B: Tensor) -> Tensor:
    mask_BC = nucleus_mask(mass_BC, top_p_B)
    cumulative_BC = (mass_BC * mask_BC).cumsum(-1)
    total_B1 = torch.where(top_p_B[:, None] < 1, cumulative_BC[:, -1:], 1.0)
    index_B1 = (cumulative_BC <= uniform_B[:, None] * total_B1).sum(-1, keepdim=True)
    last_B1 = (mask_BC & (mass_BC > 0)).sum(-1, keepdim=True) - 1  # rounding may put the number beyond the last token
    return ids_BC.gather(-1, torch.minimum(index_B1, last_B1)).squeeze(-1)
