import numpy as np
import pytest

from delia_ray.evaluation.metrics.definitions import TOKEN_KL
from delia_ray.evaluation.metrics.kl import token_kl
from delia_ray.evaluation.statistics.clusters import assign_singletons
from delia_ray.evaluation.statistics.estimation import estimate_interval


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_kl_equals_its_hand_computed_value():
    base, tuned = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]])
    first = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)  # 0.1438 nats
    np.testing.assert_allclose(token_kl(base, tuned), [first, 0.0], atol=1e-15)
    assert first == pytest.approx(0.14384, abs=1e-5)


def test_kl_is_never_negative_and_0_only_for_the_same_distribution():
    rng = np.random.default_rng(0)
    base = log_softmax(rng.normal(scale=4, size=(200, 50)))
    near = log_softmax(base + rng.normal(scale=1e-9, size=base.shape))
    assert np.all(token_kl(base, base) == 0)
    assert np.all(token_kl(base, near) >= 0)
    assert np.all(token_kl(base, log_softmax(rng.normal(size=base.shape))) > 0)


def test_kl_of_single_precision_agrees_with_double():
    rng = np.random.default_rng(0)
    base, tuned = log_softmax(rng.normal(scale=3, size=(20, 49_152))), log_softmax(rng.normal(scale=3, size=(20, 49_152)))
    single_precision = token_kl(base.astype(np.float32), tuned.astype(np.float32))
    assert single_precision.dtype == np.float64
    np.testing.assert_allclose(single_precision, token_kl(base, tuned), rtol=1e-5)


def test_a_token_that_the_base_never_says_adds_nothing_and_one_that_only_tuning_lost_is_infinite():
    with np.errstate(divide="ignore"):
        base, tuned, lost = np.log([[0.5, 0.5, 0.0]]), np.log([[0.25, 0.25, 0.5]]), np.log([[1.0, 0.0, 0.0]])
        neither = np.log([[0.25, 0.75, 0.0]])
    assert token_kl(base, tuned) == pytest.approx([np.log(2)])
    assert token_kl(base[:, :2], tuned[:, :2]) == pytest.approx([np.log(2)])
    assert np.isinf(token_kl(base, lost)).all()
    assert token_kl(base, neither) == pytest.approx([0.14384], abs=1e-5)


def test_logits_are_not_mistaken_for_log_probabilities():
    logits = np.random.default_rng(0).normal(size=(2, 5)) + 3
    with pytest.raises(AssertionError, match="base"):
        token_kl(logits, log_softmax(logits))
    with pytest.raises(AssertionError, match="tuned"):
        token_kl(log_softmax(logits), logits)
    with pytest.raises(AssertionError):
        token_kl(log_softmax(logits), log_softmax(logits[:, :4]))


def test_the_mean_weighs_each_token_alike_not_each_prompt():
    columns = {"kl_sum": np.array([1.0, 9.0]), "tokens": np.array([10, 10 + 20])}
    interval = estimate_interval(TOKEN_KL, columns, [assign_singletons(2)], seed=0, resamples=1000)
    assert interval.value == pytest.approx(10 / 40)
    assert interval.low is None and interval.note is not None and "2 items are too few" in interval.note
