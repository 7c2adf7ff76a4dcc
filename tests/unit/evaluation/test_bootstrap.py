import time

import numpy as np
import pytest
from scipy import stats

from delia_ray.evaluation import bootstrap as module
from delia_ray.evaluation.bootstrap import Difference, Interval, bootstrap, paired_bootstrap
from delia_ray.evaluation.format_metrics import bal_acc, f1_yes, format_acc, label_acc


def mean(columns):
    return columns["x"].mean(axis=-1)


def gap(columns):
    return columns["x"].mean(axis=-1) - columns["y"].mean(axis=-1)


def coin(seed: int, share: float, n: int):
    return (np.random.default_rng(seed).random(n) < share).astype(float)


def width(interval: Interval) -> float:
    assert interval.low is not None and interval.high is not None
    return interval.high - interval.low


def test_the_interval_of_a_share_is_close_to_the_normal_one():
    x = np.repeat([1.0, 0.0], [120, 280])  # share 0.3 of 400: standard error sqrt(.3 * .7 / 400) = 0.0229
    interval = bootstrap(mean, {"x": x}, seed=1, resamples=4000)
    assert interval.value == pytest.approx(0.3)
    assert interval.n == 400
    assert interval.low == pytest.approx(0.3 - 1.96 * 0.0229, abs=0.006)
    assert interval.high == pytest.approx(0.3 + 1.96 * 0.0229, abs=0.006)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_an_interval_contains_its_value(seed, n):
    interval = bootstrap(mean, {"x": np.random.default_rng(seed).exponential(size=n)}, seed=seed)
    assert interval.low <= interval.value <= interval.high


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        interval = bootstrap(mean, {"x": coin(seed, 0.4, 150)}, seed=seed, resamples=300, level=0.9)
        covered += interval.low <= 0.4 <= interval.high
    assert 0.83 <= covered / 200 <= 0.96


def test_a_higher_level_gives_a_wider_interval():
    x = coin(0, 0.5, 100)
    assert width(bootstrap(mean, {"x": x}, seed=0, level=0.99)) > width(bootstrap(mean, {"x": x}, seed=0, level=0.8))


def test_a_constant_score_has_an_interval_of_no_width():
    assert bootstrap(mean, {"x": np.ones(30)}, seed=0) == Interval(1.0, 1.0, 1.0, 30)


def test_the_seed_alone_decides_the_interval():
    x = np.random.default_rng(0).normal(size=80)
    assert bootstrap(mean, {"x": x}, seed=5) == bootstrap(mean, {"x": x}, seed=5)
    assert bootstrap(mean, {"x": x}, seed=5) != bootstrap(mean, {"x": x}, seed=6)


def test_no_items_give_no_value_instead_of_an_error():
    empty = {"x": np.array([])}
    assert bootstrap(mean, empty, seed=0) == Interval(None, None, None, 0)
    assert bootstrap(gap, [{"x": np.ones(3)}, {"y": np.array([])}], seed=0) == Interval(None, None, None, 0)
    assert paired_bootstrap(mean, empty, empty, seed=0) == Difference(None, None, None, None)


def test_columns_of_the_same_items_are_resampled_jointly():
    x = coin(0, 0.5, 200)
    together = bootstrap(gap, {"x": x, "y": x}, seed=0)
    apart = bootstrap(gap, [{"x": x}, {"y": x}], seed=0)
    assert (together.value, together.low, together.high) == (0, 0, 0)
    assert apart.value == 0
    assert width(apart) == pytest.approx(2 * 1.96 * np.sqrt(2 * 0.25 / 200), rel=0.15)


def test_item_sets_may_differ_in_size_and_the_smallest_is_reported():
    interval = bootstrap(gap, [{"x": np.ones(40)}, {"y": np.zeros(25)}], seed=0)
    assert interval == Interval(1.0, 1.0, 1.0, 25)


def test_an_arm_against_itself_differs_by_nothing_with_p_1():
    arm = {"x": np.random.default_rng(3).normal(size=60) + 5}
    assert paired_bootstrap(mean, arm, arm, seed=0) == Difference(0.0, 0.0, 0.0, 1.0)


def test_swapping_the_arms_flips_the_difference_and_keeps_p():
    left, right = {"x": coin(0, 0.6, 120)}, {"x": coin(1, 0.5, 120)}
    one, other = paired_bootstrap(mean, left, right, seed=2), paired_bootstrap(mean, right, left, seed=2)
    assert (one.difference, one.p) == (-other.difference, other.p)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.low < one.difference < one.high


def test_pairing_is_narrower_than_independent_resampling_for_correlated_arms():
    base = np.random.default_rng(0).normal(size=200)
    left, right = base + 0.1, base + np.random.default_rng(1).normal(scale=0.1, size=200)
    paired = paired_bootstrap(mean, {"x": left}, {"x": right}, seed=0)
    apart = bootstrap(gap, [{"x": left}, {"y": right}], seed=0)
    assert paired.difference == pytest.approx(apart.value)
    assert paired.high - paired.low < width(apart) / 5
    assert paired.low > 0


def test_a_difference_in_every_item_has_the_smallest_p_there_is_but_not_0():
    difference = paired_bootstrap(mean, {"x": np.ones(50)}, {"x": np.zeros(50)}, seed=0, resamples=999)
    assert difference == Difference(1.0, 1.0, 1.0, 2 / 1000)


def test_p_is_rarely_small_when_the_arms_are_alike():
    ps = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        ps.append(paired_bootstrap(mean, {"x": rng.normal(size=100)}, {"x": rng.normal(size=100)}, seed=seed, resamples=300).p)
    assert np.mean(np.array(ps) < 0.05) < 0.12
    assert 0.35 < np.mean(ps) < 0.65


def test_a_paired_statistic_may_combine_item_sets_of_different_items():
    left = [{"x": np.ones(40)}, {"y": np.zeros(30)}]
    right = [{"x": np.ones(40)}, {"y": np.ones(30)}]
    assert paired_bootstrap(gap, left, right, seed=0) == Difference(1.0, 1.0, 1.0, pytest.approx(2 / 1001))  # pyright: ignore[reportArgumentType]


def test_arms_or_columns_of_unequal_items_are_not_compared():
    with pytest.raises(AssertionError, match="same items"):
        paired_bootstrap(mean, {"x": np.ones(3)}, {"x": np.ones(4)}, seed=0)
    with pytest.raises(AssertionError, match="one item set"):
        bootstrap(gap, {"x": np.ones(3), "y": np.ones(4)}, seed=0)
    with pytest.raises(AssertionError, match="alike"):
        bootstrap(mean, [{"x": np.ones(3)}, {"x": np.ones(4)}], seed=0)


def test_the_interval_and_the_standard_error_are_scipys_own():
    """scipy and this draw other resamples: with 4000 each, an end of the interval wanders by some 3 % of its width."""
    x = np.random.default_rng(1).exponential(size=150)
    ours = bootstrap(mean, {"x": x}, seed=0, resamples=4000)
    theirs = stats.bootstrap((x,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.06 * width(ours))


def test_the_paired_interval_is_scipys_own():
    base = np.random.default_rng(0).normal(size=120)
    left, right = base + 0.2, base + np.random.default_rng(1).normal(scale=0.5, size=120)
    ours = paired_bootstrap(mean, {"x": left}, {"x": right}, seed=0, resamples=4000)
    theirs = stats.bootstrap(
        (left, right),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.06 * (ours.high - ours.low))


def test_resampling_in_parts_keeps_the_number_of_resamples(monkeypatch):
    rows = []

    def counting(columns):
        rows.append(len(columns["x"]))
        return columns["x"].mean(axis=-1)

    monkeypatch.setattr(module, "_CELLS_AT_ONCE", 300)
    interval = bootstrap(counting, {"x": coin(0, 0.5, 100)}, seed=0, resamples=1000)
    assert interval.low < 0.5 < interval.high
    assert max(rows) == 3
    assert sum(rows) == 1000 + 1  # and the observed items themselves


def test_all_format_rates_of_a_thousand_items_take_under_a_second():
    rng = np.random.default_rng(0)
    columns = {"predicted": rng.integers(-1, 2, 1000).astype(np.int8), "gold": rng.integers(0, 2, 1000).astype(np.int8)}
    started = time.process_time()
    for rate in (label_acc, bal_acc, f1_yes):
        interval = bootstrap(lambda c, rate=rate: rate(c["predicted"], c["gold"]), columns, seed=0)
        assert interval.low < interval.value < interval.high
    assert bootstrap(lambda c: format_acc(c["predicted"]), columns, seed=0).n == 1000
    assert time.process_time() - started < 1
