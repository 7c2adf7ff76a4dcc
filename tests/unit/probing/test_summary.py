"""P4 and its like: one way to say how sure a number is, here as for scores."""

import numpy as np
import pytest

from delia_ray.evaluation.clusters import single
from delia_ray.evaluation.estimation import compare
from delia_ray.evaluation.measures import TOKEN_KL
from delia_ray.probing.config import ProbeConfig
from delia_ray.probing.findings import Change
from delia_ray.probing.summary import divergences_of

CONFIG = ProbeConfig()
STEPS = [("it", "delia")]


def rows(scale: float, count: int, seed: int = 0) -> list[list[float]]:
    """The divergence at each of some tokens of each row."""
    rng = np.random.default_rng(seed)
    return [list(scale * rng.exponential(size=rng.integers(5, 20))) for _ in range(count)]


def test_divergences_and_their_change_are_those_of_the_drift_in_scores() -> None:
    more, fewer = rows(0.5, 40), rows(1.0, 40)
    found, [change] = divergences_of({"it": fewer, "delia": more}, STEPS, CONFIG)
    ours, others = (
        {"kl_sum": np.array([sum(row) for row in each]), "tokens": np.array([len(row) for row in each])} for each in (more, fewer)
    )
    expected = compare(TOKEN_KL, ours, others, [single(40)], CONFIG.seed, CONFIG.resamples)
    assert found["it"].value == pytest.approx(sum(map(sum, fewer)) / sum(map(len, fewer)))
    assert change == Change(
        fewer="it", more="delia", difference=expected.difference or 0.0, low=expected.low, high=expected.high, p=expected.p, note=None
    )
    assert change.high is not None and change.high < 0 and change.p is not None and change.p < 0.01


def test_fewer_than_six_held_out_rows_have_values_and_no_interval() -> None:
    found, [change] = divergences_of({"it": rows(1.0, 5), "delia": rows(0.5, 5)}, STEPS, CONFIG)
    assert found["it"].value is not None and found["it"].low is None
    assert change.low is None and change.note is not None and "5 items are too few" in change.note


def test_no_held_out_rows_have_neither() -> None:
    assert divergences_of({"it": [], "delia": []}, STEPS, CONFIG) == ({}, [])


def test_an_arm_that_training_did_not_move_has_no_interval_that_promises_it_never_will() -> None:
    still = [[0.0] * 4] * 20
    found, [change] = divergences_of({"it": still, "delia": still}, STEPS, CONFIG)
    assert (found["it"].value, found["it"].low, change.difference, change.low) == (0.0, None, 0.0, None)
    assert change.note is not None and "alike" in change.note
