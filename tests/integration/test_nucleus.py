"""Our top-p sampling against vLLM's."""

import pytest
import torch
from torch import Tensor
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p_pytorch

from delia_ray.synthesis.engines.nucleus import nucleus_mask, sample_top_p, uniform

SAMPLES = 100_000
TEMPERATURE, TOP_P = 0.7, 0.95


def their_nucleus(logits_BV: Tensor, top_p: float = TOP_P) -> Tensor:
    """[B, V] whether vLLM keeps a token."""
    masked = apply_top_k_top_p_pytorch(logits_BV / TEMPERATURE, None, torch.full((len(logits_BV),), top_p))
    return masked > -torch.inf


def test_the_nuclei_equal_vllms() -> None:
    for spread in (0.5, 2.0, 6.0):
        logits_BV = torch.randn(200, 2000, generator=torch.Generator().manual_seed(1)) * spread
        mass_BV, ids_BV = (logits_BV.double() / TEMPERATURE).softmax(-1).sort(descending=True)
        ours_BV = torch.zeros(200, 2000, dtype=torch.bool).scatter(
            1, ids_BV, nucleus_mask(mass_BV, torch.full((200,), TOP_P, dtype=torch.float64))
        )
        assert torch.equal(ours_BV, their_nucleus(logits_BV))


@pytest.mark.parametrize("top_p", [TOP_P, 1.0])
def test_the_sampled_distribution_equals_vllms(top_p: float) -> None:
    logits_V = torch.randn(500, generator=torch.Generator().manual_seed(2)) * 2
    probabilities_V = (logits_V.double() / TEMPERATURE).softmax(-1) * their_nucleus(logits_V[None], top_p)[0]
    probabilities_V /= probabilities_V.sum()
    numbers = torch.tensor([uniform(seed, position) for seed in range(SAMPLES // 100) for position in range(100)], dtype=torch.float64)
    settings = torch.full((2, SAMPLES), TEMPERATURE, dtype=torch.float64)
    settings[1] = top_p
    sampled = torch.cat(
        [
            sample_top_p(logits_V.expand(len(part), -1), settings[0, : len(part)], settings[1, : len(part)], part, candidates=64)
            for part in numbers.split(5000)
        ]
    )
    counts_V = torch.bincount(sampled, minlength=500).double()
    assert counts_V[probabilities_V == 0].sum() == 0
    expected_V = probabilities_V * SAMPLES
    often = expected_V >= 5
    statistic = ((counts_V - expected_V)[often].square() / expected_V[often]).sum()
    chance = torch.special.gammaincc((often.sum() - 1) / 2, statistic / 2)
    assert chance > 0.001
