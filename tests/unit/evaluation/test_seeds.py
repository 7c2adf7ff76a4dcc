import numpy as np
import pytest
from scipy import stats

from delia_ray.evaluation.bootstrap import Difference, Interval
from delia_ray.evaluation.seeds import paired_seed_difference, seed_interval

# Student's sleep data (1908): extra hours of sleep under two drugs, ten patients.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_students_own_example_comes_out_as_published():
    # R: t.test(extra ~ group, sleep, paired = TRUE): t = -4.0621, df = 9, p = 0.002833, -2.4598858 to -0.7001142
    found = paired_seed_difference(DRUG_1, DRUG_2)
    assert (found.difference, found.low, found.high) == pytest.approx((-1.58, -2.4598858, -0.7001142), abs=1e-7)
    assert found.p == pytest.approx(0.002833, abs=5e-7)


def test_it_is_scipys_paired_t_test():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=5).tolist(), rng.normal(size=5).tolist()
    found, theirs = paired_seed_difference(left, right, level=0.9), stats.ttest_rel(left, right)
    ends = theirs.confidence_interval(0.9)
    assert (found.p, found.low, found.high) == pytest.approx((theirs.pvalue, ends.low, ends.high))


def test_the_interval_of_three_seeds_is_the_tabled_one():
    # mean 2, s 1, t(2) = 4.3027: half width 4.3027 / sqrt(3)
    found = seed_interval([1.0, 2.0, 3.0])
    assert (found.value, found.n) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-4)


def test_it_covers_the_truth_as_often_as_it_says_where_a_normal_interval_would_not():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(3000, 3))
    covered = [seed_interval(row.tolist()) for row in draws]
    assert np.mean([each.low <= 0 <= each.high for each in covered]) == pytest.approx(0.95, abs=0.015)
    normal = 1.96 * draws.std(axis=1, ddof=1) / 3**0.5
    assert np.mean(np.abs(draws.mean(axis=1)) <= normal) < 0.86


def test_pairing_takes_out_what_the_seeds_share():
    seeds = np.random.default_rng(0).normal(scale=10, size=4)
    found = paired_seed_difference((seeds + np.array([1.0, 1.1, 0.9, 1.0])).tolist(), seeds.tolist())
    assert found.low is not None and found.low > 0.8


def test_too_few_seeds_have_no_interval_rather_than_a_made_up_one():
    assert seed_interval([]) == Interval(None, None, None, 0)
    assert seed_interval([0.4]) == Interval(0.4, None, None, 1)
    assert paired_seed_difference([0.5], [0.25]) == Difference(0.25, None, None, None)
    assert paired_seed_difference([], []) == Difference(None, None, None, None)


def test_seeds_that_agree_have_an_interval_of_no_width_and_claim_no_p():
    assert seed_interval([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5, 3)
    assert paired_seed_difference([0.5, 0.7], [0.5, 0.7]) == Difference(0.0, 0.0, 0.0, 1.0)
    shifted = paired_seed_difference([0.3, 0.4, 0.7], [0.2, 0.3, 0.6])
    assert shifted.difference == pytest.approx(0.1) and shifted.p is None


def test_arms_of_other_seeds_are_not_paired():
    with pytest.raises(AssertionError, match="same seeds"):
        paired_seed_difference([1.0, 2.0], [1.0])
