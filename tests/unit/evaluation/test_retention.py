import numpy as np
import pytest

from delia_ray.evaluation.clusters import single
from delia_ray.evaluation.estimation import estimate
from delia_ray.evaluation.measures import TOKEN_KL
from delia_ray.evaluation.retention import kl_tokens


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_kl_equals_its_hand_computed_value():
    base, tuned = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]])
    first = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)  # 0.1438 nats
    np.testing.assert_allclose(kl_tokens(base, tuned), [first, 0.0], atol=1e-15)
    assert first == pytest.approx(0.14384, abs=1e-5)


def test_kl_is_never_negative_and_0_only_for_the_same_distribution():
    rng = np.random.default_rng(0)
    base = log_softmax(rng.normal(scale=4, size=(200, 50)))
    near = log_softmax(base + rng.normal(scale=1e-9, size=base.shape))
    assert np.all(kl_tokens(base, base) == 0)
    assert np.all(kl_tokens(base, near) >= 0)
    assert np.all(kl_tokens(base, log_softmax(rng.normal(size=base.shape))) > 0)


def test_kl_of_single_precision_agrees_with_double():
    rng = np.random.default_rng(0)
    base, tuned = log_softmax(rng.normal(scale=3, size=(20, 49_152))), log_softmax(rng.normal(scale=3, size=(20, 49_152)))
    single = kl_tokens(base.astype(np.float32), tuned.astype(np.float32))
    assert single.dtype == np.float64
    np.testing.assert_allclose(single, kl_tokens(base, tuned), rtol=1e-5)


def test_a_token_that_the_base_never_says_adds_nothing_and_one_that_only_tuning_lost_is_infinite():
    with np.errstate(divide="ignore"):
        base, tuned, lost = np.log([[0.5, 0.5, 0.0]]), np.log([[0.25, 0.25, 0.5]]), np.log([[1.0, 0.0, 0.0]])
        neither = np.log([[0.25, 0.75, 0.0]])
    assert kl_tokens(base, tuned) == pytest.approx([np.log(2)])
    assert kl_tokens(base[:, :2], tuned[:, :2]) == pytest.approx([np.log(2)])
    assert np.isinf(kl_tokens(base, lost)).all()
    assert kl_tokens(base, neither) == pytest.approx([0.14384], abs=1e-5)


def test_logits_are_not_mistaken_for_log_probabilities():
    logits = np.random.default_rng(0).normal(size=(2, 5)) + 3
    with pytest.raises(AssertionError, match="base"):
        kl_tokens(logits, log_softmax(logits))
    with pytest.raises(AssertionError, match="tuned"):
        kl_tokens(log_softmax(logits), logits)
    with pytest.raises(AssertionError):
        kl_tokens(log_softmax(logits), log_softmax(logits[:, :4]))


def test_the_mean_weighs_each_token_alike_not_each_prompt():
    columns = {"kl_sum": np.array([1.0, 9.0]), "tokens": np.array([10, 10 + 20])}
    found = estimate(TOKEN_KL, columns, [single(2)], seed=0, resamples=1000)
    assert found.value == pytest.approx(10 / 40)
    assert found.low is None and found.note is not None and "2 items are too few" in found.note
