import numpy as np
import pytest

from delia_ray.probing.token_geometry import cosines, distances, pairwise_scale

RNG = np.random.default_rng(0)
WORDS_WKD = RNG.normal(size=(30, 3, 8))
TOKEN_CKD, CONCEPT_CKD = RNG.normal(size=(2, 50, 3, 8)) + 1.0


def look(token=TOKEN_CKD, concept=CONCEPT_CKD, words=WORDS_WKD):
    return distances(token, concept, words, pairwise_scale(words), seed=0, resamples=200)


def test_a_word_is_at_no_distance_from_itself_and_closer_than_any_other():
    found = look(concept=TOKEN_CKD)
    for end in ("value", "low", "high"):
        assert getattr(found.cosine, end) == pytest.approx([1.0] * 3)
        assert getattr(found.euclidean, end) == pytest.approx([0.0] * 3, abs=1e-6)
        assert getattr(found.normalised, end) == pytest.approx([0.0] * 3, abs=1e-6)
    assert found.further == [1.0] * 3


def test_distance_and_cosine_are_those_of_the_mean_states():
    found, token, concept = look(), TOKEN_CKD.mean(0), CONCEPT_CKD.mean(0)
    apart = np.linalg.norm(token - concept, axis=-1)
    assert found.euclidean.value == pytest.approx(apart, abs=1e-6)
    assert found.cosine.value == pytest.approx(cosines(token, concept[None])[0], abs=1e-6)
    others = np.linalg.norm(WORDS_WKD - token, axis=-1)
    assert found.further == pytest.approx((others > apart).mean(0), abs=1e-6)


def test_the_normalised_distance_does_not_depend_on_the_scale_of_the_states():
    small, large = look(), look(1000 * TOKEN_CKD, 1000 * CONCEPT_CKD, 1000 * WORDS_WKD)
    assert large.euclidean.value == pytest.approx(1000 * np.array(small.euclidean.value), rel=1e-5)
    for end in ("value", "low", "high"):
        assert getattr(large.normalised, end) == pytest.approx(getattr(small.normalised, end), abs=2e-6)
    assert large.further == small.further


def test_the_scale_is_the_mean_over_all_pairs():
    pairs = [np.linalg.norm(WORDS_WKD[i] - WORDS_WKD[j], axis=-1) for i in range(30) for j in range(i)]
    assert pairwise_scale(WORDS_WKD) == pytest.approx(np.mean(pairs, axis=0))


def test_intervals_are_those_of_resampled_carriers():
    found = look()
    rng = np.random.default_rng(0)
    drawn = rng.integers(50, size=(200, 50))
    by_hand = np.linalg.norm(TOKEN_CKD[drawn].mean(1) - CONCEPT_CKD[drawn].mean(1), axis=-1)
    low, high = np.quantile(by_hand, [0.025, 0.975], axis=0)
    assert found.euclidean.low == pytest.approx(low, abs=1e-6)
    assert found.euclidean.high == pytest.approx(high, abs=1e-6)


def test_what_no_carrier_changes_has_no_interval():
    found = look(np.repeat(TOKEN_CKD[:1], 50, 0), np.repeat(CONCEPT_CKD[:1], 50, 0))
    assert found.euclidean.low == pytest.approx(found.euclidean.high, abs=1e-6)
