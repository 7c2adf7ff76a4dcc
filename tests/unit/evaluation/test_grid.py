"""Means, differences and curves over a grid, with seeds as the unit."""

import numpy as np
import pytest
from scipy import stats

from delia_ray.evaluation.bootstrap import Difference, Interval
from delia_ray.evaluation.grid import ByItems, Place, Row, differences, gains, mean, places, saturation


def row(arm: str, rho: float | None, n: int | None, seed: int | None, value: float | None) -> Row:
    return Row(arm=arm, rho=rho, n=n, seed=seed, learning_rate=None, metrics={"score": value})


def over_seeds(arm: str, rho: float, n: int, values: list[float]) -> list[Row]:
    return [row(arm, rho, n, seed, value) for seed, value in enumerate(values)]


def test_a_mean_over_seeds_has_students_interval():
    found = mean(over_seeds("a", 1, 8, [1.0, 2.0, 4.0]), Place("a", 1, 8), "score")
    low, high = stats.t.interval(0.95, 2, np.mean([1, 2, 4]), stats.sem([1, 2, 4]))
    assert (found.value, found.low, found.high, found.n) == pytest.approx((7 / 3, low, high, 3))


def test_a_model_that_was_not_trained_has_the_interval_of_its_items():
    untrained = row("base", None, None, None, 0.2).model_copy(update={"items": {"score": Interval(0.2, 0.1, 0.4, 40)}})
    assert mean([untrained], Place("base", None, None), "score") == Interval(0.2, 0.1, 0.4, 40)
    seeded = row("it", 0, 8, 0, 0.2).model_copy(update={"items": {"score": Interval(0.2, 0.1, 0.4, 40)}})
    assert mean([seeded], Place("it", 0, 8), "score").low is None


def test_arms_are_paired_by_seed_whatever_order_they_come_in():
    rows = over_seeds("it", 0, 8, [0.1, 0.5, 0.3]) + over_seeds("delia", 6, 8, [0.3, 0.6, 0.6])[::-1]
    found = differences(rows, Place("it", 0, 8), {}, {})[Place("delia", 6, 8)]["score"]
    assert found.difference == pytest.approx(0.2)
    assert found.gain_percent == pytest.approx(100 * 0.2 / 0.3)
    assert found.p == pytest.approx(stats.ttest_rel([0.3, 0.6, 0.6], [0.1, 0.5, 0.3]).pvalue)


def test_p_values_are_corrected_for_the_number_of_arms():
    rows = over_seeds("it", 0, 8, [0.1, 0.5, 0.3]) + over_seeds("a", 6, 8, [0.3, 0.6, 0.6]) + over_seeds("b", 6, 8, [0.3, 0.4, 0.2])
    found = differences(rows, Place("it", 0, 8), {}, {})
    first, second = found[Place("a", 6, 8)]["score"], found[Place("b", 6, 8)]["score"]
    assert first.p is not None and second.p is not None
    assert first.p_holm == pytest.approx(min(1.0, 2 * first.p)) and second.p_holm == pytest.approx(max(second.p, 2 * first.p))


def test_there_is_no_gain_over_nothing():
    rows = over_seeds("it", 0, 8, [0.0, 0.0]) + over_seeds("delia", 6, 8, [0.3, 0.6])
    assert differences(rows, Place("it", 0, 8), {}, {})[Place("delia", 6, 8)]["score"].gain_percent is None


def test_there_is_no_gain_over_what_a_constant_answer_scores_too():
    rows = over_seeds("it", 0, 8, [0.6, 0.7]) + over_seeds("delia", 6, 8, [0.8, 0.9])
    for floor, gain in ((0.6, 100 * 0.2 / 0.65), (0.65, None), (0.667, None)):
        found = differences(rows, Place("it", 0, 8), {}, {"score": floor})[Place("delia", 6, 8)]["score"]
        assert found.gain_percent == (None if gain is None else pytest.approx(gain))
        assert gains(rows, "delia", "it", "score", floor) == ({} if gain is None else pytest.approx({8: gain}))


def test_three_seeds_of_one_value_are_as_sure_as_the_items_that_they_share():
    items = Interval(0.0, 0.0, 0.0566, 64)
    rows = [
        Row(arm=arm, rho=rho, n=8, seed=seed, learning_rate=None, metrics={"score": 0.0}, items={"score": items})
        for arm, rho in (("it", 0), ("delia", 6))
        for seed in range(3)
    ]
    found = mean(rows, Place("delia", 6, 8), "score")
    assert (found.value, found.low, found.high) == (0.0, 0.0, pytest.approx(0.0566))
    by_items: ByItems = {(Place("delia", 6, 8), seed): {"score": Difference(0.0, -0.0566, 0.0566, 1.0)} for seed in range(3)}
    paired = differences(rows, Place("it", 0, 8), by_items, {})[Place("delia", 6, 8)]["score"]
    assert (paired.low, paired.high, paired.p) == pytest.approx((-0.0566, 0.0566, 1.0))


def test_a_model_that_was_not_trained_is_the_same_under_every_seed():
    rows = [row("base", None, None, None, 0.0), *over_seeds("it", 0, 8, [0.1, 0.2])]
    assert differences(rows, Place("it", 0, 8), {}, {})[Place("base", None, None)]["score"].difference == pytest.approx(-0.15)


def test_what_was_not_asked_has_no_mean_and_no_difference():
    rows = [row("base", None, None, None, None), *over_seeds("it", 0, 8, [0.1, 0.2])]
    assert mean(rows, Place("base", None, None), "score").value is None
    assert differences(rows, Place("it", 0, 8), {}, {})[Place("base", None, None)]["score"].difference is None


def test_gain_is_in_percent_of_the_rival_at_each_size():
    rows = (
        over_seeds("it", 0, 8, [0.2])
        + over_seeds("delia", 6, 8, [0.3])
        + over_seeds("it", 0, 16, [0.4])
        + over_seeds("delia", 6, 16, [0.5])
    )
    assert gains(rows, "delia", "it", "score") == pytest.approx({8: 50.0, 16: 25.0})


def test_gain_is_taken_at_an_arms_own_ratio_which_comes_first():
    rows = over_seeds("it", 0, 8, [0.2]) + over_seeds("delia", 6, 8, [0.3]) + over_seeds("delia", 2, 8, [0.9])
    assert gains(rows, "delia", "it", "score") == pytest.approx({8: 50.0})


def test_the_curve_that_made_the_points_is_found_again():
    rhos = np.array([0.0, 1, 2, 4, 6, 12])
    rows = [each for rho in rhos for each in over_seeds("delia", rho, 8, [0.1 + 0.7 * (1 - np.exp(-rho / 2.5))] * 2)]
    found = saturation(rows, "delia", 8, "score")
    assert found is not None
    assert (found.start, found.rise, found.scale) == pytest.approx((0.1, 0.7, 2.5), abs=1e-3)
    assert found.at(rhos) == pytest.approx(np.array([mean(rows, place, "score").value for place in places(rows)]), abs=1e-3)


def test_too_few_ratios_and_a_flat_line_have_no_curve():
    few = [each for rho in (0, 2, 4) for each in over_seeds("delia", rho, 8, [rho / 4, rho / 5])]
    flat = [each for rho in (0, 1, 2, 4) for each in over_seeds("delia", rho, 8, [0.5, 0.5])]
    assert saturation(few, "delia", 8, "score") is None
    assert saturation(flat, "delia", 8, "score") is None
