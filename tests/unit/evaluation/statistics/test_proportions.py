"""Intervals of rates equal scipy's, and the worked examples of the papers that they are from."""

import numpy as np
import pytest
from scipy import stats

from delia_ray.evaluation.metrics.format_metrics import INVALID, NO, YES
from delia_ray.evaluation.statistics.clusters import assign_singletons, select_grouping
from delia_ray.evaluation.statistics.proportions import (
    F1,
    BalancedAccuracy,
    Limits,
    Rate,
    RateDifference,
    mover_difference_limits,
    paired_difference_limits,
    wilson,
)

RATE = Rate(lambda c: c["x"])
Z = 1.959963984540054


def pairs(both: int, left: int, right: int, neither: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Make the columns of two arms from the number of items that both, only one, or neither got right."""
    counts = [both, left, right, neither]
    return {"x": np.repeat([True, True, False, False], counts)}, {"x": np.repeat([True, False, True, False], counts)}


def newcombe(both: int, left: int, right: int, neither: int) -> Limits:
    left_columns, right_columns = pairs(both, left, right, neither)
    return paired_difference_limits(
        RATE,
        left_columns,
        right_columns,
        select_grouping(RATE.influence(left_columns) - RATE.influence(right_columns), [assign_singletons(len(left_columns["x"]))]),
    )


@pytest.mark.parametrize(("hits", "n"), [(0, 64), (64, 64), (1, 32), (16, 32), (78, 80), (100, 200), (0, 1)])
def test_the_interval_of_a_rate_is_scipys_wilson(hits: int, n: int) -> None:
    reference = stats.binomtest(hits, n).proportion_ci(method="wilson")
    columns = {"x": np.arange(n) < hits}
    limits = RATE.limits(columns, select_grouping(RATE.influence(columns), [assign_singletons(n)]))
    assert limits == pytest.approx((hits / n, reference.low, reference.high), abs=1e-12)


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
    limits = newcombe(*table)
    assert (limits.low, limits.high) == pytest.approx((low, high), abs=6e-5)


def test_swapping_the_arms_turns_the_interval_round() -> None:
    limits, swapped = newcombe(20, 9, 3, 8), newcombe(20, 3, 9, 8)
    assert (limits.low, limits.high) == pytest.approx((-swapped.high, -swapped.low))


def test_effective_items_need_not_be_whole_and_none_at_all_leave_everything_open() -> None:
    assert wilson(0.25, 4.5, Z).high > wilson(0.25, 8.0, Z).high
    assert wilson(0.0, 0.0, Z) == (0.0, 0.0, 1.0)


def test_unrelated_rates_differ_by_the_root_of_squares() -> None:
    limits = mover_difference_limits(Limits(0.5, 0.2, 0.7), Limits(0.3, 0.1, 0.7), 0.0)
    assert limits == pytest.approx((0.2, 0.2 - np.hypot(0.3, 0.4), 0.2 + np.hypot(0.2, 0.2)))


def labels(predicted: list[int], gold: list[int]) -> dict[str, np.ndarray]:
    return {"predicted": np.array(predicted, dtype=np.int8), "gold": np.array(gold, dtype=np.int8)}


def test_balanced_accuracy_of_one_label_is_that_labels_rate() -> None:
    columns = labels([YES] * 30 + [INVALID] * 10, [YES] * 40)
    limits = BalancedAccuracy().limits(columns, select_grouping(BalancedAccuracy().influence(columns), [assign_singletons(40)]))
    assert limits == pytest.approx(wilson(0.75, 40, Z))


def test_f1_lies_between_the_limits_that_its_share_of_hits_has() -> None:
    columns = labels([YES] * 12 + [NO] * 4 + [YES] * 8 + [NO] * 16, [YES] * 16 + [NO] * 24)
    limits = F1().limits(columns, select_grouping(F1().influence(columns), [assign_singletons(40)]))
    share = wilson(12 / 24, 24, Z)  # 12 hits among 24 that are yes or said to be
    assert limits == pytest.approx([2 * j / (1 + j) for j in share])
    assert limits.value == F1().value(columns)


def test_influence_says_how_a_score_moves_when_an_item_is_given_more_weight() -> None:
    rng = np.random.default_rng(0)
    columns = labels(rng.integers(-1, 2, 60).tolist(), rng.integers(0, 2, 60).tolist())
    for score in (F1(), BalancedAccuracy(), Rate(lambda c: c["predicted"] == c["gold"])):
        influence = score.influence(columns)
        assert influence.mean() == pytest.approx(0, abs=1e-12)
        for place in (0, 7, 31):
            repeated = {name: np.concatenate([np.tile(column, 200), column[[place]]]) for name, column in columns.items()}
            moved = (score.value(repeated) - score.value(columns)) * len(repeated["gold"])
            assert moved == pytest.approx(influence[place], abs=0.02)


def test_selectivity_is_the_paired_difference_of_its_two_rates() -> None:
    left, right = pairs(20, 9, 3, 8)
    columns = {"with": left["x"], "without": right["x"]}
    selectivity = RateDifference(Rate(lambda c: c["with"]), Rate(lambda c: c["without"]))
    limits = selectivity.limits(columns, select_grouping(selectivity.influence(columns), [assign_singletons(40)]))
    assert limits == pytest.approx(newcombe(20, 9, 3, 8))


@pytest.mark.parametrize("table", [(20, 9, 3, 8), (0, 6, 0, 58), (0, 0, 0, 64), (64, 0, 0, 0), (10, 0, 30, 0)])
def test_single_items_are_tested_by_mcnemars_exact_test(table: tuple[int, int, int, int]) -> None:
    left, right = pairs(*table)
    expected = stats.binomtest(table[1], table[1] + table[2]).pvalue if table[1] + table[2] else 1.0
    assert RATE.p_value(left, right, assign_singletons(sum(table)), seed=0) == pytest.approx(expected)
