import numpy as np
import pytest
from scipy import stats

from delia_ray.probing.tokens.geometry import cosines, mean_pairwise_distance, measure_distances

RNG = np.random.default_rng(0)
WORDS_WKD = RNG.normal(size=(30, 3, 8))
TOKEN_CKD, CONCEPT_CKD = RNG.normal(size=(2, 50, 3, 8)) + 1.0


def measure(token=TOKEN_CKD, concept=CONCEPT_CKD, words=WORDS_WKD):
    return measure_distances(token, concept, words, mean_pairwise_distance(words), seed=0, resamples=1000)


def test_a_word_is_at_no_distance_from_itself_and_closer_than_any_other():
    distances = measure(concept=TOKEN_CKD)
    for end in ("value", "low", "high"):
        assert getattr(distances.cosine, end) == pytest.approx([1.0] * 3)
        assert getattr(distances.euclidean, end) == pytest.approx([0.0] * 3, abs=1e-6)
        assert getattr(distances.normalized, end) == pytest.approx([0.0] * 3, abs=1e-6)
    assert distances.further == [1.0] * 3


def test_distance_and_cosine_are_those_of_the_mean_states():
    distances, token, concept = measure(), TOKEN_CKD.mean(0), CONCEPT_CKD.mean(0)
    distance = np.linalg.norm(token - concept, axis=-1)
    assert distances.euclidean.value == pytest.approx(distance, abs=1e-6)
    assert distances.cosine.value == pytest.approx(cosines(token, concept[None])[0], abs=1e-6)
    others = np.linalg.norm(WORDS_WKD - token, axis=-1)
    assert distances.further == pytest.approx((others > distance).mean(0), abs=1e-6)


def test_the_normalized_distance_does_not_depend_on_the_scale_of_the_states():
    small, large = measure(), measure(1000 * TOKEN_CKD, 1000 * CONCEPT_CKD, 1000 * WORDS_WKD)
    assert large.euclidean.value == pytest.approx(1000 * np.array(small.euclidean.value), rel=1e-5)
    for end in ("value", "low", "high"):
        assert getattr(large.normalized, end) == pytest.approx(getattr(small.normalized, end), abs=2e-6)
    assert large.further == small.further


def test_the_scale_is_the_mean_over_all_pairs():
    pairs = [np.linalg.norm(WORDS_WKD[i] - WORDS_WKD[j], axis=-1) for i in range(30) for j in range(i)]
    assert mean_pairwise_distance(WORDS_WKD) == pytest.approx(np.mean(pairs, axis=0))


def test_a_clear_distance_has_students_interval_over_the_carriers():
    far = CONCEPT_CKD + 20.0
    distances = measure(concept=far)
    difference_CKD = far - TOKEN_CKD
    direction_KD = difference_CKD.mean(0) / np.linalg.norm(difference_CKD.mean(0), axis=-1, keepdims=True)
    along_CK = (difference_CKD * direction_KD).sum(-1)  # at this distance only the component along one direction matters
    half_width_K = stats.t.ppf(0.975, 49) * stats.sem(along_CK, axis=0)
    assert distances.euclidean.low == pytest.approx(along_CK.mean(0) - half_width_K, abs=0.1 * half_width_K.max())
    assert distances.euclidean.high == pytest.approx(along_CK.mean(0) + half_width_K, abs=0.1 * half_width_K.max())


def test_an_interval_holds_its_value_and_stays_where_distances_and_cosines_are():
    for distances in (measure(), measure(concept=TOKEN_CKD + 1e-3 * CONCEPT_CKD)):
        for band in (distances.cosine, distances.euclidean):
            assert all(low <= value <= high for low, value, high in zip(band.low, band.value, band.high, strict=True))
        assert min(distances.euclidean.low) >= 0 and max(distances.cosine.high) <= 1


def test_what_no_carrier_changes_has_no_interval():
    distances = measure(np.repeat(TOKEN_CKD[:1], 50, 0), np.repeat(CONCEPT_CKD[:1], 50, 0))
    assert distances.euclidean.low == pytest.approx(distances.euclidean.high, abs=1e-6)
