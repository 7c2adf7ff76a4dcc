"""The speed that a step's FLOPs are held against."""

from collections.abc import Iterator

import pytest
import torch

from delia_ray.training import flops
from delia_ray.training.flops import MatmulPeak


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the next products take, in seconds; one once there is nothing left."""
    given: list[float] = []

    def ticks() -> Iterator[float]:
        while True:
            yield 0.0
            yield given.pop(0) if given else 1.0

    clock = ticks()
    monkeypatch.setattr(flops.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(flops, "_CPU_SIZE", 8)
    return given


def test_a_disturbed_start_is_made_good_by_a_later_try(seconds: list[float]):
    seconds += [4.0] * 4 + [2.0, 3.0]
    peak = MatmulPeak(torch.float32, torch.device("cpu"))
    assert peak.flops_per_second == 2 * 8**3 / 4.0
    for _ in range(2):
        peak.try_again()
    assert peak.flops_per_second == 2 * 8**3 / 2.0


def test_it_is_not_tried_for_ever(seconds: list[float]):
    seconds += [4.0] * 20
    peak = MatmulPeak(torch.float32, torch.device("cpu"))
    for _ in range(30):
        peak.try_again()
    assert peak.flops_per_second == 2 * 8**3 / 4.0
