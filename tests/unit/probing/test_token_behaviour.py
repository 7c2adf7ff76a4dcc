"""How far answers move when the token is named: over prompts, and over the wordings that prompts share."""

import pytest
import torch

from delia_ray.probing.token_behaviour import Shifts


def shifts(wordings: list[tuple[str | None, ...]]) -> Shifts:
    """Prompts that move as far as the others of their first wording, or nearly."""
    kept, generator = Shifts(), torch.Generator().manual_seed(0)
    of_wording = {name: torch.randn(6, generator=generator) for name, *_ in wordings}
    for name, *others in wordings:
        reference_TV = torch.zeros(5, 6)
        kept.add(reference_TV, reference_TV + of_wording[name] + 0.01 * torch.randn(5, 6, generator=generator), (name, *others))
    return kept


def test_prompts_that_share_a_wording_count_as_clusters() -> None:
    found = shifts([(str(place % 8), None) for place in range(32)]).estimate(seed=0, resamples=1000)
    assert (found.n, found.clusters) == (32, 8)
    assert found.effective_n == pytest.approx(8, rel=0.1)
    alone = shifts([(str(place), None) for place in range(32)]).estimate(seed=0, resamples=1000)
    assert alone.clusters == 32
    assert found.low is not None and found.high is not None and found.low < (found.value or 0.0) < found.high


def test_too_few_wordings_or_prompts_give_no_interval_and_none_gives_no_value() -> None:
    few = shifts([(str(place % 4), None) for place in range(32)]).estimate(seed=0, resamples=1000)
    assert few.value is not None and few.low is None and few.note is not None and "share 4 wordings" in few.note
    two = shifts([("a", None), ("b", None)]).estimate(seed=0, resamples=1000)
    assert two.value is not None and two.low is None and two.note is not None and "2 items are too few" in two.note
    assert Shifts().estimate(seed=0, resamples=1000).value is None
