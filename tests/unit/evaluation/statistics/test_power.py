"""Minimum detectable effects."""

import numpy as np
import pytest
from scipy import stats

from delia_ray.evaluation.metrics.definitions import MetricDefinition, define_row_metric
from delia_ray.evaluation.statistics.clusters import assign_singletons
from delia_ray.evaluation.statistics.estimation import estimate_difference
from delia_ray.evaluation.statistics.power import minimum_detectable_effect
from delia_ray.evaluation.statistics.proportions import Limits, Rate

RATE = MetricDefinition("test", Rate(lambda c: c["x"]))


def test_of_a_normal_difference_it_is_the_textbooks_2_8_standard_errors() -> None:
    assert minimum_detectable_effect(Limits(0.0, -1.95996, 1.95996), 1.95996, None, None) == pytest.approx(1.96 + 0.8416, abs=1e-3)


def test_a_mean_that_differs_by_it_is_found_four_times_out_of_five() -> None:
    rng = np.random.default_rng(0)
    zeros = {"x": np.zeros(60)}
    mde = estimate_difference(define_row_metric("x", None), {"x": rng.normal(size=60)}, zeros, [assign_singletons(60)], 0, 1000).mde
    assert mde is not None
    shifted = [{"x": rng.normal(2.802 / np.sqrt(60), 1, 60)} for _ in range(300)]
    differences = [
        estimate_difference(define_row_metric("x", None), each, zeros, [assign_singletons(60)], n, 300) for n, each in enumerate(shifted)
    ]
    assert np.mean([each.p <= 0.05 for each in differences if each.p is not None]) == pytest.approx(0.8, abs=0.07)
    assert mde == pytest.approx(2.802 / np.sqrt(60), rel=0.3)


@pytest.mark.parametrize("items", [16, 64, 128])
def test_two_rates_of_0_can_only_be_told_from_what_an_exact_test_can_find(items: int) -> None:
    none = {"x": np.zeros(items, dtype=bool)}
    mde = estimate_difference(RATE, none, none, [assign_singletons(items)], 0, 0).mde
    assert mde is not None
    power = stats.binom.sf(5, items, mde)  # six items or more that change, all one way
    assert stats.binomtest(6, 6).pvalue <= 0.05 < stats.binomtest(5, 5).pvalue
    assert power == pytest.approx(0.8, abs=1e-6)


def test_items_too_few_for_any_test_could_have_found_nothing() -> None:
    few = {"x": np.array([True, False, True, True])}
    assert estimate_difference(RATE, few, few, [assign_singletons(4)], 0, 0).mde is None
    real = {"x": np.array([0.2, 0.4, 0.1, 0.9])}
    difference = estimate_difference(define_row_metric("x"), real, {"x": np.zeros(4)}, [assign_singletons(4)], 0, 500)
    assert (
        difference.low is None
        and difference.mde is None
        and difference.note == "4 items are too few for an interval of this metric (at least 6)"
    )
