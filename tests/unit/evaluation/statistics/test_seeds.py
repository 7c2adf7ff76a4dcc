import numpy as np
import pytest
from scipy import stats

from delia_ray.evaluation.statistics.intervals import Interval, PairedDifference
from delia_ray.evaluation.statistics.seeds import ONE_SEED, SEEDS_AGREE, paired_seed_difference, seed_interval

# Student's sleep data (1908): extra hours of sleep under two drugs, ten patients.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_students_own_example_comes_out_as_published():
    # R: t.test(extra ~ group, sleep, paired = TRUE): t = -4.0621, df = 9, p = 0.002833, -2.4598858 to -0.7001142
    difference = paired_seed_difference(DRUG_1, DRUG_2)
    assert (difference.difference, difference.low, difference.high) == pytest.approx((-1.58, -2.4598858, -0.7001142), abs=1e-7)
    assert difference.p == pytest.approx(0.002833, abs=5e-7)


def test_it_is_scipys_paired_t_test():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=5).tolist(), rng.normal(size=5).tolist()
    difference, reference = paired_seed_difference(left, right, level=0.9), stats.ttest_rel(left, right)
    ends = reference.confidence_interval(0.9)
    assert (difference.p, difference.low, difference.high) == pytest.approx((reference.pvalue, ends.low, ends.high))


def test_the_interval_of_three_seeds_is_the_tabled_one():
    # mean 2, s 1, t(2) = 4.3027: half width 4.3027 / sqrt(3)
    interval = seed_interval([1.0, 2.0, 3.0])
    assert (interval.value, interval.n) == (2.0, 3)
    assert (interval.low, interval.high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-4)


def test_it_covers_the_truth_as_often_as_it_says_where_a_normal_interval_would_not():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(3000, 3))
    covered = [seed_interval(row.tolist()) for row in draws]
    assert np.mean([each.low <= 0 <= each.high for each in covered]) == pytest.approx(0.95, abs=0.015)
    normal = 1.96 * draws.std(axis=1, ddof=1) / 3**0.5
    assert np.mean(np.abs(draws.mean(axis=1)) <= normal) < 0.86


def test_pairing_takes_out_what_the_seeds_share():
    seeds = np.random.default_rng(0).normal(scale=10, size=4)
    difference = paired_seed_difference((seeds + np.array([1.0, 1.1, 0.9, 1.0])).tolist(), seeds.tolist())
    assert difference.low is not None and difference.low > 0.8


def test_too_few_seeds_have_no_interval_rather_than_a_made_up_one():
    assert seed_interval([]) == Interval(None, None, None, 0)
    assert seed_interval([0.4]) == Interval(0.4, None, None, 1, note=ONE_SEED)
    assert paired_seed_difference([0.5], [0.25]) == PairedDifference(0.25, None, None, None, note=ONE_SEED)
    assert paired_seed_difference([], []) == PairedDifference(None, None, None, None)


def test_seeds_that_agree_to_the_last_digit_have_the_interval_of_their_items():
    items = [Interval(0.0, 0.0, 0.0566, 64)] * 3
    interval = seed_interval([0.0, 0.0, 0.0], items)
    assert (interval.value, interval.low, interval.high, interval.n) == (0.0, 0.0, pytest.approx(0.0566), 3)
    item_differences = [PairedDifference(0.1, -0.02, 0.2, 0.07, mde=0.16, margin=0.05)] * 3
    paired = paired_seed_difference([0.3, 0.4, 0.7], [0.2, 0.3, 0.6], item_differences)
    assert (paired.difference, paired.low, paired.high) == pytest.approx((0.1, -0.02, 0.2))
    assert (paired.p, paired.mde, paired.margin) == (0.07, pytest.approx(0.16), 0.05)


def test_seeds_that_agree_and_items_that_nobody_knows_have_no_interval():
    assert seed_interval([0.5, 0.5, 0.5]) == Interval(0.5, None, None, 3, note=SEEDS_AGREE)
    shifted = paired_seed_difference([0.3, 0.4, 0.7], [0.2, 0.3, 0.6])
    assert (shifted.difference, shifted.low, shifted.p) == (pytest.approx(0.1), None, None)


def test_an_interval_over_seeds_is_at_least_as_wide_as_that_over_items():
    values, items = [0.60, 0.61, 0.62], [Interval(value, value - 0.1, value + 0.08, 80) for value in (0.60, 0.61, 0.62)]
    interval = seed_interval(values, items)
    assert (interval.low, interval.high) == pytest.approx((0.61 - 0.1, 0.61 + 0.08))
    wide = seed_interval([0.2, 0.6, 0.9], items)
    assert wide == seed_interval([0.2, 0.6, 0.9])


def test_a_p_over_seeds_is_no_smaller_than_the_median_one_over_items():
    items = [PairedDifference(0.1, -0.1, 0.3, p) for p in (0.01, 0.2, 0.4)]
    assert paired_seed_difference([0.5, 0.51, 0.52], [0.4, 0.409, 0.42], items).p == 0.2
    without_items = paired_seed_difference([0.5, 0.51, 0.52], [0.4, 0.409, 0.42])
    assert without_items.p is not None and without_items.p < 0.01


def test_what_seeds_could_have_found_grows_with_their_spread():
    difference = paired_seed_difference([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert difference.mde == pytest.approx((stats.t.ppf(0.975, 2) + stats.t.ppf(0.8, 2)) / 3**0.5)


def test_arms_of_other_seeds_are_not_paired():
    with pytest.raises(AssertionError, match="same seeds"):
        paired_seed_difference([1.0, 2.0], [1.0])
