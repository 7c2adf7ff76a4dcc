import numpy as np
import pytest

from delia_ray.probing import estimates as est
from delia_ray.probing.estimates import jackknife


def test_the_interval_of_a_mean_is_students() -> None:
    values = np.random.default_rng(0).normal(size=10)
    found = jackknife(lambda w: (w @ values) / w.sum(-1), [10])
    reach = 2.262 * values.std(ddof=1) / 10**0.5  # t of 9 degrees of freedom, from a table
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - reach, rel=1e-3)
    assert found.high == pytest.approx(values.mean() + reach, rel=1e-3)


def test_independent_samples_add_their_variances() -> None:
    left, right = np.random.default_rng(1).normal(size=(2, 8))
    both = jackknife(lambda w: (w[:, :8] @ left) / w[:, :8].sum(-1) - (w[:, 8:] @ right) / w[:, 8:].sum(-1), [8, 8])
    alone = [jackknife(lambda w, of=of: (w @ of) / w.sum(-1), [8]) for of in (left, right)]
    widths = [each.high - each.low for each in (both, *alone)]  # pyright: ignore
    assert widths[0] ** 2 == pytest.approx(widths[1] ** 2 + widths[2] ** 2)


def test_the_corrected_norms_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, mean = np.random.default_rng(2), np.array([0.3, 0.0, -0.2, 0.1])
    hits = 0
    for _ in range(300):
        rows = mean + rng.normal(size=(24, 4))
        found = jackknife(lambda w, gram=rows @ rows.T: est.squared_norm(w, gram, np.ones(24)), [24])
        hits += found.low <= mean @ mean <= found.high  # pyright: ignore
    assert 0.88 <= hits / 300 <= 0.99


def test_noise_alone_has_a_plain_norm_but_no_corrected_one() -> None:
    rows = np.random.default_rng(3).normal(size=(24, 1000))
    gram, ones = rows @ rows.T, np.ones((1, 24))
    assert est.mean_norm(ones, gram, np.ones(24))[0] > 5
    found = jackknife(lambda w: est.squared_norm(w, gram, np.ones(24)), [24])
    assert found.low < 0 < found.high  # pyright: ignore
    assert est.root(found).low == 0


def test_cosines_of_means_are_numpys() -> None:
    rows = np.random.default_rng(4).normal(size=(7, 5))
    left, right = rows[:3].sum(0), rows[3:].sum(0)
    found = est.cosine_of_means(np.ones((1, 7)), rows @ rows.T, 3)[0]
    assert found == pytest.approx(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def test_one_or_two_rows_have_a_value_and_no_interval() -> None:
    for count in (1, 2):
        found = jackknife(lambda w: (w @ np.arange(1.0, 1 + w.shape[-1])) / w.sum(-1), [count])
        assert found.value is not None and found.low is None and found.high is None
        assert found.note is not None and "too few" in found.note
        assert est.root(found).note == found.note


def test_a_cosine_with_a_gradient_of_0_is_not_known_instead_of_no_number() -> None:
    gram = np.zeros((6, 6))
    found = jackknife(lambda w: est.cosine_of_means(w, gram, 3), [3, 3])
    assert (found.value, found.low, found.high) == (None, None, None) and found.note is not None
