"""Measurement of the peak FLOP/s."""

from collections.abc import Iterator

import pytest
import torch

from delia_ray.training.metrics import mfu
from delia_ray.training.metrics.mfu import PeakFlops


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Durations of the next matrix products; one second each once the list is empty."""
    durations: list[float] = []

    def ticks() -> Iterator[float]:
        while True:
            yield 0.0
            yield durations.pop(0) if durations else 1.0

    clock = ticks()
    monkeypatch.setattr(mfu.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(mfu, "_CPU_SIZE", 8)
    return durations


def test_a_disturbed_start_is_corrected_by_a_later_measurement(seconds: list[float]):
    seconds += [4.0] * 4 + [2.0, 3.0]
    peak = PeakFlops(torch.float32, torch.device("cpu"))
    assert peak.flops_per_second == 2 * 8**3 / 4.0
    for _ in range(2):
        peak.measure_again()
    assert peak.flops_per_second == 2 * 8**3 / 2.0


def test_the_number_of_measurements_is_limited(seconds: list[float]):
    seconds += [4.0] * 20
    peak = PeakFlops(torch.float32, torch.device("cpu"))
    for _ in range(30):
        peak.measure_again()
    assert peak.flops_per_second == 2 * 8**3 / 4.0
