"""Divergences of P4: their intervals and differences, computed as for scores."""

import numpy as np
import pytest

from delia_ray.evaluation.metrics.definitions import TOKEN_KL
from delia_ray.evaluation.statistics.clusters import assign_singletons
from delia_ray.evaluation.statistics.estimation import estimate_difference
from delia_ray.probing.config import ProbeConfig
from delia_ray.probing.predictions.schema import ArmDifference
from delia_ray.probing.predictions.summary import estimate_divergences

CONFIG = ProbeConfig()
PAIRS = [("sft", "delia")]


def make_rows(scale: float, count: int, seed: int = 0) -> list[list[float]]:
    """Make the divergence at each token of each row."""
    rng = np.random.default_rng(seed)
    return [list(scale * rng.exponential(size=rng.integers(5, 20))) for _ in range(count)]


def test_divergences_and_their_change_are_those_of_the_drift_in_scores() -> None:
    more, fewer = make_rows(0.5, 40), make_rows(1.0, 40)
    intervals, [difference] = estimate_divergences({"sft": fewer, "delia": more}, PAIRS, CONFIG)
    left, right = (
        {"kl_sum": np.array([sum(row) for row in each]), "tokens": np.array([len(row) for row in each])} for each in (more, fewer)
    )
    expected = estimate_difference(TOKEN_KL, left, right, [assign_singletons(40)], CONFIG.seed, CONFIG.resamples)
    assert intervals["sft"].value == pytest.approx(sum(map(sum, fewer)) / sum(map(len, fewer)))
    assert difference == ArmDifference(
        fewer="sft", more="delia", difference=expected.difference or 0.0, low=expected.low, high=expected.high, p=expected.p, note=None
    )
    assert difference.high is not None and difference.high < 0 and difference.p is not None and difference.p < 0.01


def test_fewer_than_six_held_out_rows_have_values_and_no_interval() -> None:
    intervals, [difference] = estimate_divergences({"sft": make_rows(1.0, 5), "delia": make_rows(0.5, 5)}, PAIRS, CONFIG)
    assert intervals["sft"].value is not None and intervals["sft"].low is None
    assert difference.low is None and difference.note is not None and "5 items are too few" in difference.note


def test_no_held_out_rows_have_neither() -> None:
    assert estimate_divergences({"sft": [], "delia": []}, PAIRS, CONFIG) == ({}, [])


def test_an_arm_that_training_did_not_move_has_no_interval_that_promises_it_never_will() -> None:
    still = [[0.0] * 4] * 20
    intervals, [difference] = estimate_divergences({"sft": still, "delia": still}, PAIRS, CONFIG)
    assert (intervals["sft"].value, intervals["sft"].low, difference.difference, difference.low) == (0.0, None, 0.0, None)
    assert difference.note is not None and "alike" in difference.note
