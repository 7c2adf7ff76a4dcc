import numpy as np
import pytest

from delia_ray.evaluation.bootstrap import bootstrap
from delia_ray.evaluation.retention import kl_tokens, match_share, matches, mean_token_kl


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_an_answer_matches_only_if_every_character_does():
    assert matches(["a", "b", "c "], ["a", "B", "c"]).tolist() == [True, False, False]
    assert match_share(["a", "b", "c", "d"], ["a", "B", "c", "d"]) == 0.75
    assert match_share([], []) is None


def test_a_missing_answer_is_noticed():
    with pytest.raises(ValueError):
        match_share(["a", "b"], ["a"])


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


def test_mean_token_kl_weighs_each_token_alike_not_each_prompt():
    kl_sum, tokens = np.array([1.0, 9.0]), np.array([10, 10 + 20])
    assert mean_token_kl(kl_sum, tokens) == pytest.approx(10 / 40)
    assert mean_token_kl(kl_sum[None].repeat(3, 0), tokens[None].repeat(3, 0)) == pytest.approx([0.25] * 3)
    interval = bootstrap(lambda c: mean_token_kl(c["kl_sum"], c["tokens"]), {"kl_sum": kl_sum, "tokens": tokens}, seed=0)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.25, 0.1, 0.3))
