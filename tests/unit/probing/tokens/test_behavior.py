"""Divergence of answers when the token is named: over prompts, and over the wordings that prompts share."""

import pytest
import torch

from delia_ray.probing.tokens.behavior import AnswerDivergence


def make_divergence(wordings: list[tuple[str | None, ...]]) -> AnswerDivergence:
    """Add prompts with nearly the same divergence as the others of their first wording."""
    divergence, generator = AnswerDivergence(), torch.Generator().manual_seed(0)
    shift_of_wording = {name: torch.randn(6, generator=generator) for name, *_ in wordings}
    for name, *others in wordings:
        reference_TV = torch.zeros(5, 6)
        divergence.add(reference_TV, reference_TV + shift_of_wording[name] + 0.01 * torch.randn(5, 6, generator=generator), (name, *others))
    return divergence


def test_prompts_that_share_a_wording_count_as_clusters() -> None:
    shared = make_divergence([(str(index % 8), None) for index in range(32)]).estimate(seed=0, resamples=1000)
    assert (shared.n, shared.clusters) == (32, 8)
    assert shared.effective_n == pytest.approx(8, rel=0.1)
    alone = make_divergence([(str(index), None) for index in range(32)]).estimate(seed=0, resamples=1000)
    assert alone.clusters == 32
    assert shared.low is not None and shared.high is not None and shared.low < (shared.value or 0.0) < shared.high


def test_too_few_wordings_or_prompts_give_no_interval_and_none_gives_no_value() -> None:
    few = make_divergence([(str(index % 4), None) for index in range(32)]).estimate(seed=0, resamples=1000)
    assert few.value is not None and few.low is None and few.note is not None and "share 4 wordings" in few.note
    two = make_divergence([("a", None), ("b", None)]).estimate(seed=0, resamples=1000)
    assert two.value is not None and two.low is None and two.note is not None and "2 items are too few" in two.note
    assert AnswerDivergence().estimate(seed=0, resamples=1000).value is None
