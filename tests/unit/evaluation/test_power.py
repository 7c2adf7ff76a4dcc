"""What a comparison could have found."""

import numpy as np
import pytest
from scipy import stats

from delia_ray.evaluation.clusters import single
from delia_ray.evaluation.estimation import compare
from delia_ray.evaluation.measures import Measure, row_measure
from delia_ray.evaluation.power import detectable
from delia_ray.evaluation.proportions import Limits, Rate

RATE = Measure("test", Rate(lambda c: c["x"]))


def test_of_a_normal_difference_it_is_the_textbooks_2_8_standard_errors() -> None:
    assert detectable(Limits(0.0, -1.95996, 1.95996), 1.95996, None, None) == pytest.approx(1.96 + 0.8416, abs=1e-3)


def test_a_mean_that_differs_by_it_is_found_four_times_out_of_five() -> None:
    rng = np.random.default_rng(0)
    zeros = {"x": np.zeros(60)}
    mde = compare(row_measure("x", None), {"x": rng.normal(size=60)}, zeros, [single(60)], 0, 1000).mde
    assert mde is not None
    shifted = [{"x": rng.normal(2.802 / np.sqrt(60), 1, 60)} for _ in range(300)]
    found = [compare(row_measure("x", None), each, zeros, [single(60)], n, 300) for n, each in enumerate(shifted)]
    assert np.mean([each.p <= 0.05 for each in found if each.p is not None]) == pytest.approx(0.8, abs=0.07)
    assert mde == pytest.approx(2.802 / np.sqrt(60), rel=0.3)


@pytest.mark.parametrize("items", [16, 64, 128])
def test_two_rates_of_0_can_only_be_told_from_what_an_exact_test_can_find(items: int) -> None:
    none = {"x": np.zeros(items, dtype=bool)}
    mde = compare(RATE, none, none, [single(items)], 0, 0).mde
    assert mde is not None
    found = stats.binom.sf(5, items, mde)  # six items or more that change, all one way
    assert stats.binomtest(6, 6).pvalue <= 0.05 < stats.binomtest(5, 5).pvalue
    assert found == pytest.approx(0.8, abs=1e-6)


def test_items_too_few_for_any_test_could_have_found_nothing() -> None:
    few = {"x": np.array([True, False, True, True])}
    assert compare(RATE, few, few, [single(4)], 0, 0).mde is None
    real = {"x": np.array([0.2, 0.4, 0.1, 0.9])}
    found = compare(row_measure("x"), real, {"x": np.zeros(4)}, [single(4)], 0, 500)
    assert found.low is None and found.mde is None and found.note == "4 items are too few for an interval of this metric (at least 6)"
