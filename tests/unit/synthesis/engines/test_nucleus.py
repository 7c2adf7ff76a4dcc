import pytest
import torch
from torch import Tensor

from delia_ray.synthesis.engines.nucleus import sample_top_p, uniform

VOCABULARY = 1000


def skewed_logits(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


def sample(logits: Tensor, temperature: float, top_p: float, numbers: Tensor, candidates: int = 256) -> Tensor:
    settings = torch.tensor([temperature, top_p], dtype=torch.float64).expand(len(logits), 2)
    return sample_top_p(logits, settings[:, 0], settings[:, 1], numbers, candidates)


@pytest.mark.parametrize("top_p", [0.95, 1.0])
@pytest.mark.parametrize("candidates", [1, 7, 256, VOCABULARY])
def test_the_number_of_candidates_changes_no_sample(candidates: int, top_p: float) -> None:
    logits, numbers = skewed_logits(200), torch.rand(200, dtype=torch.float64)
    assert torch.equal(sample(logits, 1.3, top_p, numbers, candidates), sample(logits, 1.3, top_p, numbers, VOCABULARY))


def test_a_row_is_sampled_alike_in_any_batch() -> None:
    logits, numbers = skewed_logits(40), torch.rand(40, dtype=torch.float64)
    together = sample(logits, 0.7, 0.9, numbers)
    alone = [sample(logits[row : row + 1], 0.7, 0.9, numbers[row : row + 1]) for row in range(40)]
    assert together.tolist() == [int(each) for each in alone]


def test_an_excluded_token_is_never_sampled() -> None:
    logits = torch.full((500, VOCABULARY), -torch.inf)
    logits[:, [3, 8]] = torch.tensor([1.0, 2.0])
    numbers = torch.rand(500, dtype=torch.float64)
    numbers[0] = 1 - 2**-53
    assert set(sample(logits, 1.0, 1.0, numbers).tolist()) == {3, 8}


def test_the_last_number_below_one_stays_inside_the_nucleus() -> None:
    logits = skewed_logits(50)
    last = torch.full((50,), 1 - 2**-53, dtype=torch.float64)
    sampled = sample(logits, 0.7, 0.5, last)
    ranks = (logits > logits.gather(1, sampled[:, None])).sum(1)
    sizes = ((logits / 0.7).softmax(-1).sort(descending=True).values.cumsum(-1) < 0.5).sum(1)
    assert torch.equal(ranks, sizes)


def test_uniform_numbers_follow_from_seed_and_position_alone() -> None:
    numbers = torch.tensor([uniform(seed, position) for seed in range(100) for position in range(100)], dtype=torch.float64)
    assert uniform(3, 5) == uniform(3, 5)
    assert len(set(numbers.tolist())) == len(numbers)
    assert 0 <= numbers.min() and numbers.max() < 1
    counts = torch.histc(numbers, bins=20, min=0, max=1)
    assert (counts - 500).square().sum() / 500 < 43.8  # chi-squared, 19 degrees of freedom, 0.1 %


@pytest.mark.parametrize("allowed", [1, 3, 400])
def test_a_token_that_a_grammar_excludes_is_never_sampled(allowed: int) -> None:
    logits_BV = torch.randn(2000, 1000, generator=torch.Generator().manual_seed(3))
    logits_BV[:, allowed:] = -torch.inf
    hot_B, top_p_B = torch.full((2000,), 2.0, dtype=torch.float64), torch.full((2000,), 0.95, dtype=torch.float64)
    uniform_B = torch.tensor([uniform(seed, 0) for seed in range(1999)] + [1 - 2**-53], dtype=torch.float64)
    assert sample_top_p(logits_BV, hot_B, top_p_B, uniform_B).max() < allowed
