"""Means, paired differences, gains and saturation curves over a grid, with seeds as the unit."""

import numpy as np
import pytest
from scipy import stats

from delia_ray.evaluation.statistics.grid import (
    GridPoint,
    ItemDifferences,
    ModelScores,
    fit_saturation,
    list_grid_points,
    mean_over_seeds,
    paired_differences,
    relative_gains,
)
from delia_ray.evaluation.statistics.intervals import Interval, PairedDifference


def row(arm: str, rho: float | None, n: int | None, seed: int | None, value: float | None) -> ModelScores:
    return ModelScores(arm=arm, rho=rho, n=n, seed=seed, learning_rate=None, metrics={"score": value})


def over_seeds(arm: str, rho: float, n: int, values: list[float]) -> list[ModelScores]:
    return [row(arm, rho, n, seed, value) for seed, value in enumerate(values)]


def test_a_mean_over_seeds_has_students_interval():
    interval = mean_over_seeds(over_seeds("a", 1, 8, [1.0, 2.0, 4.0]), GridPoint("a", 1, 8), "score")
    low, high = stats.t.interval(0.95, 2, np.mean([1, 2, 4]), stats.sem([1, 2, 4]))
    assert (interval.value, interval.low, interval.high, interval.n) == pytest.approx((7 / 3, low, high, 3))


def test_a_model_that_was_not_trained_has_the_interval_of_its_items():
    untrained = row("base", None, None, None, 0.2).model_copy(update={"items": {"score": Interval(0.2, 0.1, 0.4, 40)}})
    assert mean_over_seeds([untrained], GridPoint("base", None, None), "score") == Interval(0.2, 0.1, 0.4, 40)
    seeded = row("sft", 0, 8, 0, 0.2).model_copy(update={"items": {"score": Interval(0.2, 0.1, 0.4, 40)}})
    assert mean_over_seeds([seeded], GridPoint("sft", 0, 8), "score").low is None


def test_arms_are_paired_by_seed_whatever_order_they_come_in():
    rows = over_seeds("sft", 0, 8, [0.1, 0.5, 0.3]) + over_seeds("delia", 6, 8, [0.3, 0.6, 0.6])[::-1]
    difference = paired_differences(rows, GridPoint("sft", 0, 8), {}, {})[GridPoint("delia", 6, 8)]["score"]
    assert difference.difference == pytest.approx(0.2)
    assert difference.gain_percent == pytest.approx(100 * 0.2 / 0.3)
    assert difference.p == pytest.approx(stats.ttest_rel([0.3, 0.6, 0.6], [0.1, 0.5, 0.3]).pvalue)


def test_p_values_are_corrected_for_the_number_of_arms():
    rows = over_seeds("sft", 0, 8, [0.1, 0.5, 0.3]) + over_seeds("a", 6, 8, [0.3, 0.6, 0.6]) + over_seeds("b", 6, 8, [0.3, 0.4, 0.2])
    differences = paired_differences(rows, GridPoint("sft", 0, 8), {}, {})
    first, second = differences[GridPoint("a", 6, 8)]["score"], differences[GridPoint("b", 6, 8)]["score"]
    assert first.p is not None and second.p is not None
    assert first.p_holm == pytest.approx(min(1.0, 2 * first.p)) and second.p_holm == pytest.approx(max(second.p, 2 * first.p))


def test_there_is_no_gain_over_nothing():
    rows = over_seeds("sft", 0, 8, [0.0, 0.0]) + over_seeds("delia", 6, 8, [0.3, 0.6])
    assert paired_differences(rows, GridPoint("sft", 0, 8), {}, {})[GridPoint("delia", 6, 8)]["score"].gain_percent is None


def test_there_is_no_gain_over_what_a_constant_answer_scores_too():
    rows = over_seeds("sft", 0, 8, [0.6, 0.7]) + over_seeds("delia", 6, 8, [0.8, 0.9])
    for floor, gain in ((0.6, 100 * 0.2 / 0.65), (0.65, None), (0.667, None)):
        difference = paired_differences(rows, GridPoint("sft", 0, 8), {}, {"score": floor})[GridPoint("delia", 6, 8)]["score"]
        assert difference.gain_percent == (None if gain is None else pytest.approx(gain))
        assert relative_gains(rows, "delia", "sft", "score", floor) == ({} if gain is None else pytest.approx({8: gain}))


def test_three_seeds_of_one_value_are_as_sure_as_the_items_that_they_share():
    items = Interval(0.0, 0.0, 0.0566, 64)
    rows = [
        ModelScores(arm=arm, rho=rho, n=8, seed=seed, learning_rate=None, metrics={"score": 0.0}, items={"score": items})
        for arm, rho in (("sft", 0), ("delia", 6))
        for seed in range(3)
    ]
    interval = mean_over_seeds(rows, GridPoint("delia", 6, 8), "score")
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, pytest.approx(0.0566))
    by_items: ItemDifferences = {
        (GridPoint("delia", 6, 8), seed): {"score": PairedDifference(0.0, -0.0566, 0.0566, 1.0)} for seed in range(3)
    }
    paired = paired_differences(rows, GridPoint("sft", 0, 8), by_items, {})[GridPoint("delia", 6, 8)]["score"]
    assert (paired.low, paired.high, paired.p) == pytest.approx((-0.0566, 0.0566, 1.0))


def test_a_model_that_was_not_trained_is_the_same_under_every_seed():
    rows = [row("base", None, None, None, 0.0), *over_seeds("sft", 0, 8, [0.1, 0.2])]
    assert paired_differences(rows, GridPoint("sft", 0, 8), {}, {})[GridPoint("base", None, None)]["score"].difference == pytest.approx(
        -0.15
    )


def test_what_was_not_asked_has_no_mean_and_no_difference():
    rows = [row("base", None, None, None, None), *over_seeds("sft", 0, 8, [0.1, 0.2])]
    assert mean_over_seeds(rows, GridPoint("base", None, None), "score").value is None
    assert paired_differences(rows, GridPoint("sft", 0, 8), {}, {})[GridPoint("base", None, None)]["score"].difference is None


def test_gain_is_in_percent_of_the_rival_at_each_size():
    rows = (
        over_seeds("sft", 0, 8, [0.2])
        + over_seeds("delia", 6, 8, [0.3])
        + over_seeds("sft", 0, 16, [0.4])
        + over_seeds("delia", 6, 16, [0.5])
    )
    assert relative_gains(rows, "delia", "sft", "score") == pytest.approx({8: 50.0, 16: 25.0})


def test_gain_is_taken_at_an_arms_own_ratio_which_comes_first():
    rows = over_seeds("sft", 0, 8, [0.2]) + over_seeds("delia", 6, 8, [0.3]) + over_seeds("delia", 2, 8, [0.9])
    assert relative_gains(rows, "delia", "sft", "score") == pytest.approx({8: 50.0})


def test_the_curve_that_made_the_points_is_found_again():
    rhos = np.array([0.0, 1, 2, 4, 6, 12])
    rows = [each for rho in rhos for each in over_seeds("delia", rho, 8, [0.1 + 0.7 * (1 - np.exp(-rho / 2.5))] * 2)]
    curve = fit_saturation(rows, "delia", 8, "score")
    assert curve is not None
    assert (curve.start, curve.rise, curve.scale) == pytest.approx((0.1, 0.7, 2.5), abs=1e-3)
    assert curve.predict(rhos) == pytest.approx(
        np.array([mean_over_seeds(rows, place, "score").value for place in list_grid_points(rows)]), abs=1e-3
    )


def test_too_few_ratios_and_a_flat_line_have_no_curve():
    few = [each for rho in (0, 2, 4) for each in over_seeds("delia", rho, 8, [rho / 4, rho / 5])]
    flat = [each for rho in (0, 1, 2, 4) for each in over_seeds("delia", rho, 8, [0.5, 0.5])]
    assert fit_saturation(few, "delia", 8, "score") is None
    assert fit_saturation(flat, "delia", 8, "score") is None
