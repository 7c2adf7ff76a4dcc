import numpy as np
import pytest

from delia_ray.probing.predictions import estimates as est
from delia_ray.probing.predictions.estimates import jackknife


def test_the_interval_of_a_mean_is_students() -> None:
    values = np.random.default_rng(0).normal(size=10)
    interval = jackknife(lambda w: (w @ values) / w.sum(-1), [10])
    half_width = 2.262 * values.std(ddof=1) / 10**0.5  # t of 9 degrees of freedom, from a table
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half_width, rel=1e-3)
    assert interval.high == pytest.approx(values.mean() + half_width, rel=1e-3)


def test_independent_samples_add_their_variances() -> None:
    left, right = np.random.default_rng(1).normal(size=(2, 8))
    both = jackknife(lambda w: (w[:, :8] @ left) / w[:, :8].sum(-1) - (w[:, 8:] @ right) / w[:, 8:].sum(-1), [8, 8])
    alone = [jackknife(lambda w, values=values: (w @ values) / w.sum(-1), [8]) for values in (left, right)]
    widths = [each.high - each.low for each in (both, *alone)]  # pyright: ignore
    assert widths[0] ** 2 == pytest.approx(widths[1] ** 2 + widths[2] ** 2)


def test_the_corrected_norms_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, mean = np.random.default_rng(2), np.array([0.3, 0.0, -0.2, 0.1])
    hits = 0
    for _ in range(300):
        rows = mean + rng.normal(size=(24, 4))
        interval = jackknife(lambda w, gram=rows @ rows.T: est.unbiased_squared_norm(w, gram, np.ones(24)), [24])
        hits += interval.low <= mean @ mean <= interval.high  # pyright: ignore
    assert 0.88 <= hits / 300 <= 0.99


def test_noise_alone_has_a_plain_norm_but_no_corrected_one() -> None:
    rows = np.random.default_rng(3).normal(size=(24, 1000))
    gram, ones = rows @ rows.T, np.ones((1, 24))
    assert est.mean_norm(ones, gram, np.ones(24))[0] > 5
    interval = jackknife(lambda w: est.unbiased_squared_norm(w, gram, np.ones(24)), [24])
    assert interval.low < 0 < interval.high  # pyright: ignore
    assert est.square_root(interval).low == 0


def test_cosines_of_sums_are_numpys() -> None:
    rows = np.random.default_rng(4).normal(size=(7, 5))
    left, right = rows[:3].sum(0), rows[3:].sum(0)
    cosine = est.cosine_of_sums(np.ones((1, 7)), rows @ rows.T, 3)[0]
    assert cosine == pytest.approx(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def test_one_or_two_rows_have_a_value_and_no_interval() -> None:
    for count in (1, 2):
        interval = jackknife(lambda w: (w @ np.arange(1.0, 1 + w.shape[-1])) / w.sum(-1), [count])
        assert interval.value is not None and interval.low is None and interval.high is None
        assert interval.note is not None and "too few" in interval.note
        assert est.square_root(interval).note == interval.note


def test_a_cosine_with_a_gradient_of_0_is_not_known_instead_of_no_number() -> None:
    gram = np.zeros((6, 6))
    interval = jackknife(lambda w: est.cosine_of_sums(w, gram, 3), [3, 3])
    assert (interval.value, interval.low, interval.high) == (None, None, None) and interval.note is not None
