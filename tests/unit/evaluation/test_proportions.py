"""Intervals of rates against scipy's, and against worked examples of the papers that they are from."""

import numpy as np
import pytest
from scipy import stats

from delia_ray.evaluation.clusters import group, single
from delia_ray.evaluation.format_metrics import INVALID, NO, YES
from delia_ray.evaluation.proportions import F1, BalancedRate, Limits, Rate, RateDifference, compared, difference_limits, wilson

RATE = Rate(lambda c: c["x"])
Z = 1.959963984540054


def pairs(both: int, left: int, right: int, neither: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Two arms by how many items both, only one, or neither got right."""
    counts = [both, left, right, neither]
    return {"x": np.repeat([True, True, False, False], counts)}, {"x": np.repeat([True, False, True, False], counts)}


def newcombe(both: int, left: int, right: int, neither: int) -> Limits:
    one, other = pairs(both, left, right, neither)
    return compared(RATE, one, other, group(RATE.influence(one) - RATE.influence(other), [single(len(one["x"]))]))


@pytest.mark.parametrize(("hits", "n"), [(0, 64), (64, 64), (1, 32), (16, 32), (78, 80), (100, 200), (0, 1)])
def test_the_interval_of_a_rate_is_scipys_wilson(hits: int, n: int) -> None:
    theirs = stats.binomtest(hits, n).proportion_ci(method="wilson")
    columns = {"x": np.arange(n) < hits}
    found = RATE.limits(columns, group(RATE.influence(columns), [single(n)]))
    assert found == pytest.approx((hits / n, theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # both, left only, right only, neither. Newcombe 1998, Statistics in Medicine 17, 2635, method 10.
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((36, 14, 0, 0), 0.1528, 0.4167),
        ((54, 0, 0, 0), -0.0664, 0.0664),
        ((0, 30, 0, 0), 0.8395, 1.0),
        ((30, 0, 0, 0), -0.1135, 0.1135),
        # Fagerland, Lydersen and Laake 2017, Statistical Analysis of Contingency Tables, chapter 8: complete response before and after.
        ((59, 6, 16, 80), -0.1186, -0.0046),
    ],
)
def test_the_paired_difference_is_newcombes_method_10(table: tuple[int, int, int, int], low: float, high: float) -> None:
    found = newcombe(*table)
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


def test_swapping_the_arms_turns_the_interval_round() -> None:
    one, other = newcombe(20, 9, 3, 8), newcombe(20, 3, 9, 8)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_effective_items_need_not_be_whole_and_none_at_all_leave_everything_open() -> None:
    assert wilson(0.25, 4.5, Z).high > wilson(0.25, 8.0, Z).high
    assert wilson(0.0, 0.0, Z) == (0.0, 0.0, 1.0)


def test_unrelated_rates_differ_by_the_root_of_squares() -> None:
    found = difference_limits(Limits(0.5, 0.2, 0.7), Limits(0.3, 0.1, 0.7), 0.0)
    assert found == pytest.approx((0.2, 0.2 - np.hypot(0.3, 0.4), 0.2 + np.hypot(0.2, 0.2)))


def labels(predicted: list[int], gold: list[int]) -> dict[str, np.ndarray]:
    return {"predicted": np.array(predicted, dtype=np.int8), "gold": np.array(gold, dtype=np.int8)}


def test_balanced_accuracy_of_one_label_is_that_labels_rate() -> None:
    columns = labels([YES] * 30 + [INVALID] * 10, [YES] * 40)
    found = BalancedRate().limits(columns, group(BalancedRate().influence(columns), [single(40)]))
    assert found == pytest.approx(wilson(0.75, 40, Z))


def test_f1_lies_between_the_limits_that_its_share_of_hits_has() -> None:
    columns = labels([YES] * 12 + [NO] * 4 + [YES] * 8 + [NO] * 16, [YES] * 16 + [NO] * 24)
    found = F1().limits(columns, group(F1().influence(columns), [single(40)]))
    share = wilson(12 / 24, 24, Z)  # 12 hits among 24 that are yes or said to be
    assert found == pytest.approx([2 * j / (1 + j) for j in share])
    assert found.value == F1().value(columns)


def test_influence_says_how_a_score_moves_when_an_item_is_given_more_weight() -> None:
    rng = np.random.default_rng(0)
    columns = labels(rng.integers(-1, 2, 60).tolist(), rng.integers(0, 2, 60).tolist())
    for score in (F1(), BalancedRate(), Rate(lambda c: c["predicted"] == c["gold"])):
        influence = score.influence(columns)
        assert influence.mean() == pytest.approx(0, abs=1e-12)
        for place in (0, 7, 31):
            repeated = {name: np.concatenate([np.tile(column, 200), column[[place]]]) for name, column in columns.items()}
            moved = (score.value(repeated) - score.value(columns)) * len(repeated["gold"])
            assert moved == pytest.approx(influence[place], abs=0.02)


def test_selectivity_is_the_paired_difference_of_its_two_rates() -> None:
    one, other = pairs(20, 9, 3, 8)
    columns = {"with": one["x"], "without": other["x"]}
    selectivity = RateDifference(Rate(lambda c: c["with"]), Rate(lambda c: c["without"]))
    found = selectivity.limits(columns, group(selectivity.influence(columns), [single(40)]))
    assert found == pytest.approx(newcombe(20, 9, 3, 8))


@pytest.mark.parametrize("table", [(20, 9, 3, 8), (0, 6, 0, 58), (0, 0, 0, 64), (64, 0, 0, 0), (10, 0, 30, 0)])
def test_single_items_are_tested_by_mcnemars_exact_test(table: tuple[int, int, int, int]) -> None:
    one, other = pairs(*table)
    expected = stats.binomtest(table[1], table[1] + table[2]).pvalue if table[1] + table[2] else 1.0
    assert RATE.p(one, other, single(sum(table)), seed=0) == pytest.approx(expected)
