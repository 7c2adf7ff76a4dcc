import numpy as np
import pytest

from delia_ray.evaluation.statistics.intervals import PairedDifference
from delia_ray.evaluation.statistics.multiplicity import apply_holm_correction, holm


def test_the_adjusted_values_are_the_hand_computed_ones():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") is 0.03 0.06 0.06 0.02
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


def test_one_p_value_stays_as_it_is_and_none_gives_none():
    assert holm({"a": 0.04}) == {"a": 0.04}
    assert holm({}) == {}


def test_no_adjusted_value_is_above_1_or_out_of_order():
    p_values = {str(index): float(p) for index, p in enumerate(np.random.default_rng(0).random(30))}
    adjusted = holm(p_values)
    assert list(adjusted) == list(p_values)
    assert all(p <= adjusted[name] <= 1 for name, p in p_values.items())
    by_size = sorted(p_values, key=lambda name: p_values[name])
    assert [adjusted[name] for name in by_size] == sorted(adjusted.values())


def test_equal_p_values_stay_equal():
    assert holm({"a": 0.02, "b": 0.02, "c": 0.02}) == pytest.approx({"a": 0.06, "b": 0.06, "c": 0.06})


def test_a_false_rejection_among_many_arms_is_as_rare_as_promised():
    rng = np.random.default_rng(0)
    families = [{str(arm): float(p) for arm, p in enumerate(rng.random(8))} for _ in range(2000)]
    assert np.mean([min(holm(family).values()) <= 0.05 for family in families]) == pytest.approx(0.05, abs=0.015)
    assert np.mean([min(family.values()) <= 0.05 for family in families]) > 0.3


def test_arms_are_corrected_metric_by_metric_and_what_was_not_measured_does_not_count():
    none = PairedDifference(None, None, None, None)
    compared = {
        "delia": {"chrf": PairedDifference(2.0, 1.0, 3.0, 0.01), "spill": PairedDifference(0.1, 0.0, 0.2, 0.02)},
        "replay": {"chrf": PairedDifference(1.0, 0.0, 2.0, 0.04), "spill": none},
        "kl": {"chrf": PairedDifference(1.0, 0.0, 2.0, 0.03)},
    }
    corrected = apply_holm_correction(compared)
    assert {arm: each["chrf"].p_holm for arm, each in corrected.items()} == pytest.approx({"delia": 0.03, "replay": 0.06, "kl": 0.06})
    assert corrected["delia"]["spill"].p_holm == 0.02
    assert corrected["replay"]["spill"] == none
    assert corrected["delia"]["chrf"].p == 0.01 and corrected["delia"]["chrf"].low == 1.0
