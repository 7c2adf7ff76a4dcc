"""Means, ratios and corpus scores: intervals by cluster bootstrap that hold with few clusters."""

import numpy as np
import pytest
from scipy import stats

from delia_ray.evaluation import sums
from delia_ray.evaluation.clusters import group, single
from delia_ray.evaluation.estimation import ALL_ALIKE, compare, estimate
from delia_ray.evaluation.measures import TOKEN_KL, Measure, row_measure
from delia_ray.evaluation.sums import SumScore, limits, t_ends

MEAN = row_measure("x", best=None)
BOUNDED = row_measure("rouge_l")


def mean_of(values: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": values}


def test_the_interval_of_a_mean_is_students_where_nothing_is_skewed() -> None:
    x = stats.norm.ppf((np.arange(12) + 0.5) / 12)
    assert isinstance(MEAN.quantity, SumScore)
    found = limits(MEAN.quantity, mean_of(x), [group(x, [single(12)])], seed=0, resamples=20_000)
    assert found is not None
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 11) * stats.sem(x), rel=0.03)


def test_a_long_tail_on_one_side_moves_the_end_on_that_side() -> None:
    x = stats.expon.ppf((np.arange(12) + 0.5) / 12)
    found = estimate(MEAN, mean_of(x), [single(12)], seed=0, resamples=1000)
    reach = stats.t.ppf(0.975, 11) * stats.sem(x)
    assert found.low is not None and found.high is not None
    assert found.low == pytest.approx(x.mean() - reach, rel=0.15)
    assert found.high > x.mean() + 1.2 * reach


def test_the_skewness_is_scipys_and_turning_the_scores_round_turns_the_interval_round() -> None:
    x = np.random.default_rng(3).exponential(size=9)
    x -= x.mean()
    low, high = t_ends(0.0, x, 2.0)
    skew, error = float(stats.skew(x, bias=False)), float(stats.sem(x))
    transformed = high / error  # of Hall's cubic, this is where the studentised mean is -2 once its skewness is taken away
    untransformed = -transformed + skew * transformed**2 / 9 - skew**2 * transformed**3 / 243 + skew / 18
    assert untransformed == pytest.approx(-2.0, abs=1e-9)
    assert t_ends(0.0, -x, 2.0) == pytest.approx((-high, -low))


def test_an_interval_stays_on_the_scale() -> None:
    few = {"rouge_l": np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.9])}
    found = estimate(BOUNDED, few, [single(6)], seed=0, resamples=1000)
    assert found.low is not None and found.high is not None
    assert 0.0 <= found.low <= 0.15 <= found.high <= 1.0
    drift = estimate(TOKEN_KL, {"kl_sum": few["rouge_l"], "tokens": np.ones(6)}, [single(6)], seed=0, resamples=1000)
    assert drift.low is not None and drift.low >= 0.0


def test_the_seed_alone_decides_the_interval_and_memory_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = (mean_of(each) for each in 5 + np.random.default_rng(0).normal(size=(2, 30)))
    whole, again, other = (compare(MEAN, left, right, [single(30)], seed, 1000) for seed in (5, 5, 6))
    assert whole == again and whole.gain_low != other.gain_low
    monkeypatch.setattr(sums, "_CELLS_AT_ONCE", 900)
    assert compare(MEAN, left, right, [single(30)], 5, 1000) == whole


@pytest.mark.parametrize(("clusters", "size"), [(8, 10), (20, 4), (40, 2), (60, 1)])
def test_means_of_items_in_clusters_are_covered(clusters: int, size: int) -> None:
    rng, covered = np.random.default_rng(clusters), 0
    codes = np.repeat(np.arange(clusters), size)
    for _ in range(300):
        values = np.sqrt(0.3) * rng.normal(size=clusters)[codes] + np.sqrt(0.7) * rng.normal(size=len(codes))
        found = estimate(MEAN, mean_of(values), [codes], seed=1, resamples=300)
        assert found.low is not None and found.high is not None
        covered += found.low <= 0 <= found.high
    assert covered / 300 >= 0.92


def test_clusters_that_are_alike_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(1).normal(size=10), 8)
    codes = np.repeat(np.arange(10), 8)
    clustered, alone = (estimate(MEAN, mean_of(values), [each], 0, 1000) for each in (codes, single(80)))
    assert clustered.icc == pytest.approx(1.0) and clustered.effective_n == pytest.approx(10)
    assert clustered.high - clustered.low > 2 * (alone.high - alone.low)  # pyright: ignore[reportOptionalOperand]


def test_items_that_are_all_alike_say_nothing_on_an_open_scale_and_little_on_a_closed_one() -> None:
    open_scale = estimate(MEAN, mean_of(np.full(30, 0.5)), [single(30)], 0, 100)
    assert (open_scale.value, open_scale.low, open_scale.note) == (0.5, None, ALL_ALIKE)
    closed = estimate(BOUNDED, {"rouge_l": np.full(30, 0.5)}, [single(30)], 0, 100)
    unseen = stats.binomtest(0, 30).proportion_ci(method="wilson").high
    assert (closed.low, closed.high) == pytest.approx((0.5 - 0.5 * unseen, 0.5 + 0.5 * unseen))


def test_scores_that_are_all_0_or_1_are_a_rate() -> None:
    ones = {"rouge_l": np.ones(40)}
    found = estimate(BOUNDED, ones, [single(40)], 0, 100)
    assert (found.low, found.high) == pytest.approx((stats.binomtest(40, 40).proportion_ci(method="wilson").low, 1.0))
    halves = {"rouge_l": np.full(40, 0.5)}
    assert compare(BOUNDED, ones, halves, [single(40)], 0, 100).low is not None


def test_two_arms_that_answer_alike_are_not_known_to_be_equal() -> None:
    same = {"rouge_l": np.random.default_rng(0).random(64)}
    found = compare(BOUNDED, same, same, [single(64)], 0, 100)
    assert found.p == 1 and found.low is not None and found.low < -0.05
    assert compare(MEAN, mean_of(same["rouge_l"]), mean_of(same["rouge_l"]), [single(64)], 0, 100).note == ALL_ALIKE


def test_a_mean_is_compared_as_scipy_compares_it() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=120)
    left, right = base + 0.2, base + rng.normal(scale=0.5, size=120)
    ours = compare(MEAN, mean_of(left), mean_of(right), [single(120)], seed=0, resamples=4000)
    theirs = stats.ttest_rel(left, right)
    ends = theirs.confidence_interval()
    assert (ours.low, ours.high) == pytest.approx((ends.low, ends.high), abs=0.015)
    permuted = stats.permutation_test((left, right), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples", vectorized=True)
    assert ours.p == pytest.approx(permuted.pvalue, abs=0.003)


def test_the_gain_is_the_difference_in_percent_of_the_right_arm() -> None:
    rng = np.random.default_rng(4)
    right = rng.random(100) + 0.5
    left = right + rng.normal(0.1, 0.2, 100)
    found = compare(MEAN, mean_of(left), mean_of(right), [single(100)], seed=0, resamples=4000)
    assert found.gain_percent == pytest.approx(100 * (left.mean() - right.mean()) / right.mean())
    items = rng.integers(100, size=(20000, 100))
    gains = 100 * (left[items].mean(1) - right[items].mean(1)) / right[items].mean(1)
    assert (found.gain_low, found.gain_high) == pytest.approx(tuple(np.quantile(gains, [0.024, 0.976])), abs=0.5)


def test_over_nothing_there_is_no_gain_and_over_next_to_nothing_no_limits_of_it() -> None:
    ones, nothing, seldom = np.full(20, 2.0), np.zeros(20), 3 * np.eye(20)[0]
    assert compare(MEAN, mean_of(ones), mean_of(nothing), [single(20)], 0, 1000).gain_percent is None
    found = compare(MEAN, mean_of(ones), mean_of(seldom), [single(20)], 0, 1000)
    assert found.gain_percent == pytest.approx(100 * (2 - 0.15) / 0.15) and found.gain_low is None


def test_of_two_groupings_the_wider_interval_and_the_larger_p_count() -> None:
    rng = np.random.default_rng(5)
    by_wording, by_document = np.arange(80) % 16, np.arange(80) // 10
    left = mean_of(rng.normal(size=8)[by_document] + 0.3 * rng.normal(size=80) + 0.4)
    right = mean_of(np.zeros(80))
    both, one = (compare(MEAN, left, right, groupings, 0, 1000) for groupings in ([by_wording, by_document], [by_document]))
    assert (both.low, both.high, both.clusters) == (one.low, one.high, 8)
    assert both.p is not None and one.p is not None and both.p >= one.p


def test_a_measure_of_a_column_needs_no_more_than_that_column() -> None:
    assert isinstance(BOUNDED, Measure) and BOUNDED.scale == "scores" and row_measure("exact_match").scale == "rates"
