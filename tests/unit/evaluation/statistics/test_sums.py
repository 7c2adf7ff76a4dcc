"""Means, ratios of sums and corpus scores: intervals by cluster bootstrap that are valid with few clusters."""

import numpy as np
import pytest
from scipy import stats

from delia_ray.evaluation.metrics.definitions import TOKEN_KL, MetricDefinition, define_row_metric
from delia_ray.evaluation.statistics import sums
from delia_ray.evaluation.statistics.clusters import assign_singletons, select_grouping
from delia_ray.evaluation.statistics.estimation import NO_VARIATION, estimate_difference, estimate_interval
from delia_ray.evaluation.statistics.sums import SumScore, bootstrap_limits, t_limits

MEAN = define_row_metric("x", best=None)
BOUNDED = define_row_metric("rouge_l")


def mean_of(values: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": values}


def test_the_interval_of_a_mean_is_students_where_nothing_is_skewed() -> None:
    x = stats.norm.ppf((np.arange(12) + 0.5) / 12)
    assert isinstance(MEAN.statistic, SumScore)
    limits = bootstrap_limits(MEAN.statistic, mean_of(x), [select_grouping(x, [assign_singletons(12)])], seed=0, resamples=20_000)
    assert limits is not None
    assert limits.high - limits.low == pytest.approx(2 * stats.t.ppf(0.975, 11) * stats.sem(x), rel=0.03)


def test_a_long_tail_on_one_side_moves_the_end_on_that_side() -> None:
    x = stats.expon.ppf((np.arange(12) + 0.5) / 12)
    interval = estimate_interval(MEAN, mean_of(x), [assign_singletons(12)], seed=0, resamples=1000)
    reach = stats.t.ppf(0.975, 11) * stats.sem(x)
    assert interval.low is not None and interval.high is not None
    assert interval.low == pytest.approx(x.mean() - reach, rel=0.15)
    assert interval.high > x.mean() + 1.2 * reach


def test_the_skewness_is_scipys_and_turning_the_scores_round_turns_the_interval_round() -> None:
    x = np.random.default_rng(3).exponential(size=9)
    x -= x.mean()
    low, high = t_limits(0.0, x, 2.0)
    skew, error = float(stats.skew(x, bias=False)), float(stats.sem(x))
    transformed = high / error  # of Hall's cubic, this is where the studentized mean is -2 once its skewness is taken away
    untransformed = -transformed + skew * transformed**2 / 9 - skew**2 * transformed**3 / 243 + skew / 18
    assert untransformed == pytest.approx(-2.0, abs=1e-9)
    assert t_limits(0.0, -x, 2.0) == pytest.approx((-high, -low))


def test_an_interval_stays_on_the_scale() -> None:
    few = {"rouge_l": np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.9])}
    interval = estimate_interval(BOUNDED, few, [assign_singletons(6)], seed=0, resamples=1000)
    assert interval.low is not None and interval.high is not None
    assert 0.0 <= interval.low <= 0.15 <= interval.high <= 1.0
    drift = estimate_interval(TOKEN_KL, {"kl_sum": few["rouge_l"], "tokens": np.ones(6)}, [assign_singletons(6)], seed=0, resamples=1000)
    assert drift.low is not None and drift.low >= 0.0


def test_the_seed_alone_decides_the_interval_and_memory_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = (mean_of(each) for each in 5 + np.random.default_rng(0).normal(size=(2, 30)))
    first, repeated, other_seed = (estimate_difference(MEAN, left, right, [assign_singletons(30)], seed, 1000) for seed in (5, 5, 6))
    assert first == repeated and first.gain_low != other_seed.gain_low
    monkeypatch.setattr(sums, "_MAX_COUNTS", 900)
    assert estimate_difference(MEAN, left, right, [assign_singletons(30)], 5, 1000) == first


@pytest.mark.parametrize(("clusters", "size"), [(8, 10), (20, 4), (40, 2), (60, 1)])
def test_means_of_items_in_clusters_are_covered(clusters: int, size: int) -> None:
    rng, covered = np.random.default_rng(clusters), 0
    codes = np.repeat(np.arange(clusters), size)
    for _ in range(300):
        values = np.sqrt(0.3) * rng.normal(size=clusters)[codes] + np.sqrt(0.7) * rng.normal(size=len(codes))
        interval = estimate_interval(MEAN, mean_of(values), [codes], seed=1, resamples=300)
        assert interval.low is not None and interval.high is not None
        covered += interval.low <= 0 <= interval.high
    assert covered / 300 >= 0.92


def test_clusters_that_are_alike_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(1).normal(size=10), 8)
    codes = np.repeat(np.arange(10), 8)
    clustered, singletons = (estimate_interval(MEAN, mean_of(values), [each], 0, 1000) for each in (codes, assign_singletons(80)))
    assert clustered.icc == pytest.approx(1.0) and clustered.effective_n == pytest.approx(10)
    assert clustered.high - clustered.low > 2 * (singletons.high - singletons.low)  # pyright: ignore[reportOptionalOperand]


def test_items_that_are_all_alike_say_nothing_on_an_open_scale_and_little_on_a_closed_one() -> None:
    open_scale = estimate_interval(MEAN, mean_of(np.full(30, 0.5)), [assign_singletons(30)], 0, 100)
    assert (open_scale.value, open_scale.low, open_scale.note) == (0.5, None, NO_VARIATION)
    closed = estimate_interval(BOUNDED, {"rouge_l": np.full(30, 0.5)}, [assign_singletons(30)], 0, 100)
    unseen = stats.binomtest(0, 30).proportion_ci(method="wilson").high
    assert (closed.low, closed.high) == pytest.approx((0.5 - 0.5 * unseen, 0.5 + 0.5 * unseen))


def test_scores_that_are_all_0_or_1_are_a_rate() -> None:
    ones = {"rouge_l": np.ones(40)}
    interval = estimate_interval(BOUNDED, ones, [assign_singletons(40)], 0, 100)
    assert (interval.low, interval.high) == pytest.approx((stats.binomtest(40, 40).proportion_ci(method="wilson").low, 1.0))
    halves = {"rouge_l": np.full(40, 0.5)}
    assert estimate_difference(BOUNDED, ones, halves, [assign_singletons(40)], 0, 100).low is not None


def test_two_arms_that_answer_alike_are_not_known_to_be_equal() -> None:
    same = {"rouge_l": np.random.default_rng(0).random(64)}
    difference = estimate_difference(BOUNDED, same, same, [assign_singletons(64)], 0, 100)
    assert difference.p == 1 and difference.low is not None and difference.low < -0.05
    assert (
        estimate_difference(MEAN, mean_of(same["rouge_l"]), mean_of(same["rouge_l"]), [assign_singletons(64)], 0, 100).note == NO_VARIATION
    )


def test_a_mean_is_compared_as_scipy_compares_it() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=120)
    left, right = base + 0.2, base + rng.normal(scale=0.5, size=120)
    difference = estimate_difference(MEAN, mean_of(left), mean_of(right), [assign_singletons(120)], seed=0, resamples=4000)
    reference = stats.ttest_rel(left, right)
    ends = reference.confidence_interval()
    assert (difference.low, difference.high) == pytest.approx((ends.low, ends.high), abs=0.015)
    permuted = stats.permutation_test((left, right), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples", vectorized=True)
    assert difference.p == pytest.approx(permuted.pvalue, abs=0.003)


def test_the_gain_is_the_difference_in_percent_of_the_right_arm() -> None:
    rng = np.random.default_rng(4)
    right = rng.random(100) + 0.5
    left = right + rng.normal(0.1, 0.2, 100)
    difference = estimate_difference(MEAN, mean_of(left), mean_of(right), [assign_singletons(100)], seed=0, resamples=4000)
    assert difference.gain_percent == pytest.approx(100 * (left.mean() - right.mean()) / right.mean())
    items = rng.integers(100, size=(20000, 100))
    gains = 100 * (left[items].mean(1) - right[items].mean(1)) / right[items].mean(1)
    assert (difference.gain_low, difference.gain_high) == pytest.approx(tuple(np.quantile(gains, [0.024, 0.976])), abs=0.5)


def test_over_nothing_there_is_no_gain_and_over_next_to_nothing_no_limits_of_it() -> None:
    ones, nothing, seldom = np.full(20, 2.0), np.zeros(20), 3 * np.eye(20)[0]
    assert estimate_difference(MEAN, mean_of(ones), mean_of(nothing), [assign_singletons(20)], 0, 1000).gain_percent is None
    difference = estimate_difference(MEAN, mean_of(ones), mean_of(seldom), [assign_singletons(20)], 0, 1000)
    assert difference.gain_percent == pytest.approx(100 * (2 - 0.15) / 0.15) and difference.gain_low is None


def test_of_two_groupings_the_wider_interval_and_the_larger_p_count() -> None:
    rng = np.random.default_rng(5)
    by_wording, by_document = np.arange(80) % 16, np.arange(80) // 10
    left = mean_of(rng.normal(size=8)[by_document] + 0.3 * rng.normal(size=80) + 0.4)
    right = mean_of(np.zeros(80))
    two_groupings, one_grouping = (
        estimate_difference(MEAN, left, right, groupings, 0, 1000) for groupings in ([by_wording, by_document], [by_document])
    )
    assert (two_groupings.low, two_groupings.high, two_groupings.clusters) == (one_grouping.low, one_grouping.high, 8)
    assert two_groupings.p is not None and one_grouping.p is not None and two_groupings.p >= one_grouping.p


def test_a_measure_of_a_column_needs_no_more_than_that_column() -> None:
    assert isinstance(BOUNDED, MetricDefinition) and BOUNDED.scale == "scores" and define_row_metric("exact_match").scale == "rates"
