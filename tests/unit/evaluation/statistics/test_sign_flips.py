"""Exact permutation tests by cluster, and their random approximation."""

from itertools import product

import numpy as np
import pytest

from delia_ray.evaluation.statistics.sign_flips import permutation_p_value, sign_flip_p_value


def enumerated(sums: np.ndarray) -> float:
    sums_by_pattern = [abs(np.dot(signs, sums)) for signs in product((-1, 1), repeat=len(sums))]
    return float(np.mean(np.array(sums_by_pattern) >= abs(sums.sum()) - 1e-12))


@pytest.mark.parametrize("seed", range(6))
def test_whole_numbers_and_few_clusters_are_counted_out_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    integers, reals = rng.integers(-4, 6, 11).astype(float), rng.normal(0.4, 1, 10)
    assert sign_flip_p_value(integers, seed=0) == pytest.approx(enumerated(integers))
    assert sign_flip_p_value(reals, seed=0) == pytest.approx(enumerated(reals))


def test_many_clusters_of_real_numbers_are_drawn_and_come_close() -> None:
    sums = np.random.default_rng(2).normal(0.35, 1, 40)
    rounded = np.round(sums * 1000)
    assert sign_flip_p_value(sums, seed=0) == pytest.approx(sign_flip_p_value(rounded, seed=0), abs=0.01)
    assert sign_flip_p_value(sums, seed=0) == sign_flip_p_value(sums, seed=0)
    assert sign_flip_p_value(np.full(40, 0.5) + np.arange(40) / 1e4, seed=0) == 1 / 10_000, "never 0"


def test_five_clusters_can_never_reach_the_5_percent_that_six_can() -> None:
    assert sign_flip_p_value(np.array([1.0, 2.0, 3.0, 4.0, 9.5]), seed=0) == 2 / 2**5
    assert sign_flip_p_value(np.array([1.0, 2.0, 3.0, 4.0, 9.5, 1.5]), seed=0) == 2 / 2**6


def test_arms_that_do_not_differ_have_a_p_of_1() -> None:
    assert sign_flip_p_value(np.zeros(20), seed=0) == 1
    equal = np.ones((8, 2))
    assert permutation_p_value(equal, equal, lambda sums: sums[:, 0] / sums[:, 1], seed=0) == 1


def test_exchanging_clusters_is_flipping_signs_where_the_score_is_a_sum() -> None:
    rng = np.random.default_rng(3)
    left, right = rng.normal(size=(9, 1)) + 0.5, rng.normal(size=(9, 1))
    assert permutation_p_value(left, right, lambda sums: sums[:, 0], seed=0) == sign_flip_p_value((left - right)[:, 0], seed=0)
