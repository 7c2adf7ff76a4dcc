import numpy as np
import pytest
from scipy import stats

from delia_ray.probing.token_geometry import cosines, distances, pairwise_scale

RNG = np.random.default_rng(0)
WORDS_WKD = RNG.normal(size=(30, 3, 8))
TOKEN_CKD, CONCEPT_CKD = RNG.normal(size=(2, 50, 3, 8)) + 1.0


def look(token=TOKEN_CKD, concept=CONCEPT_CKD, words=WORDS_WKD):
    return distances(token, concept, words, pairwise_scale(words), seed=0, resamples=1000)


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


def test_a_clear_distance_has_students_interval_over_the_carriers():
    far = CONCEPT_CKD + 20.0
    found = look(concept=far)
    apart_CKD = far - TOKEN_CKD
    direction_KD = apart_CKD.mean(0) / np.linalg.norm(apart_CKD.mean(0), axis=-1, keepdims=True)
    along_CK = (apart_CKD * direction_KD).sum(-1)  # so far away, a distance is the way along one direction
    reach_K = stats.t.ppf(0.975, 49) * stats.sem(along_CK, axis=0)
    assert found.euclidean.low == pytest.approx(along_CK.mean(0) - reach_K, abs=0.1 * reach_K.max())
    assert found.euclidean.high == pytest.approx(along_CK.mean(0) + reach_K, abs=0.1 * reach_K.max())


def test_an_interval_holds_its_value_and_stays_where_distances_and_cosines_are():
    for found in (look(), look(concept=TOKEN_CKD + 1e-3 * CONCEPT_CKD)):
        for band in (found.cosine, found.euclidean):
            assert all(low <= value <= high for low, value, high in zip(band.low, band.value, band.high, strict=True))
        assert min(found.euclidean.low) >= 0 and max(found.cosine.high) <= 1


def test_what_no_carrier_changes_has_no_interval():
    found = look(np.repeat(TOKEN_CKD[:1], 50, 0), np.repeat(CONCEPT_CKD[:1], 50, 0))
    assert found.euclidean.low == pytest.approx(found.euclidean.high, abs=1e-6)
