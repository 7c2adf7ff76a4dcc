"""The exact test by clusters, and what stands in for it."""

from itertools import product

import numpy as np
import pytest

from delia_ray.evaluation.sign_flips import sign_flip_p, swap_p


def enumerated(sums: np.ndarray) -> float:
    drawn = [abs(np.dot(signs, sums)) for signs in product((-1, 1), repeat=len(sums))]
    return float(np.mean(np.array(drawn) >= abs(sums.sum()) - 1e-12))


@pytest.mark.parametrize("seed", range(6))
def test_whole_numbers_and_few_clusters_are_counted_out_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole, real = rng.integers(-4, 6, 11).astype(float), rng.normal(0.4, 1, 10)
    assert sign_flip_p(whole, seed=0) == pytest.approx(enumerated(whole))
    assert sign_flip_p(real, seed=0) == pytest.approx(enumerated(real))


def test_many_clusters_of_real_numbers_are_drawn_and_come_close() -> None:
    sums = np.random.default_rng(2).normal(0.35, 1, 40)
    rounded = np.round(sums * 1000)
    assert sign_flip_p(sums, seed=0) == pytest.approx(sign_flip_p(rounded, seed=0), abs=0.01)
    assert sign_flip_p(sums, seed=0) == sign_flip_p(sums, seed=0)
    assert sign_flip_p(np.full(40, 0.5) + np.arange(40) / 1e4, seed=0) == 1 / 10_000, "never 0"


def test_five_clusters_can_never_reach_the_5_percent_that_six_can() -> None:
    assert sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 9.5]), seed=0) == 2 / 2**5
    assert sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 9.5, 1.5]), seed=0) == 2 / 2**6


def test_arms_that_do_not_differ_have_a_p_of_1() -> None:
    assert sign_flip_p(np.zeros(20), seed=0) == 1
    same = np.ones((8, 2))
    assert swap_p(same, same, lambda sums: sums[:, 0] / sums[:, 1], seed=0) == 1


def test_exchanging_clusters_is_flipping_signs_where_the_score_is_a_sum() -> None:
    rng = np.random.default_rng(3)
    left, right = rng.normal(size=(9, 1)) + 0.5, rng.normal(size=(9, 1))
    assert swap_p(left, right, lambda sums: sums[:, 0], seed=0) == sign_flip_p((left - right)[:, 0], seed=0)
