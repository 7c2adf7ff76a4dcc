import numpy as np
import pytest

from delia_ray.synthesis.diversity.embedding import mean_distance, nearest_cosines, normalize_rows, project_to_plane, vendi

RANDOM = np.random.default_rng(0).normal(size=(30, 8))


def test_the_vendi_score_counts_vectors_that_have_nothing_in_common():
    assert vendi(np.eye(7)) == pytest.approx(7)
    assert vendi(np.tile(normalize_rows(RANDOM[:1]), (9, 1))) == pytest.approx(1)
    assert vendi(np.repeat(np.eye(5), 4, axis=0)) == pytest.approx(5)


def test_the_vendi_score_is_the_same_from_either_gram_matrix():
    unit = normalize_rows(RANDOM)
    values = np.linalg.eigvalsh(unit @ unit.T / len(unit)).clip(1e-15)
    assert vendi(unit) == pytest.approx(np.exp(-(values * np.log(values)).sum()))


def test_the_mean_distance_is_that_of_all_pairs():
    unit = normalize_rows(RANDOM)
    pairs = [1 - unit[i] @ unit[j] for i in range(len(unit)) for j in range(i)]
    assert mean_distance(unit) == pytest.approx(np.mean(pairs))
    assert mean_distance(np.eye(4)) == pytest.approx(1)
    assert mean_distance(np.tile(unit[:1], (4, 1))) == pytest.approx(0)
    assert mean_distance(unit[:1]) == 0


def test_a_twin_is_the_nearest():
    unit = normalize_rows(np.concatenate([RANDOM, RANDOM[:1]]))
    nearest = nearest_cosines(unit)
    assert nearest[0] == nearest[-1] == pytest.approx(1)
    assert nearest[1:-1].max() < 0.999
    assert len(nearest_cosines(unit[:1])) == 0


def test_the_plane_holds_what_varies_and_does_not_flip():
    flat = np.zeros((40, 6))
    flat[:, [1, 4]] = np.random.default_rng(1).normal(size=(40, 2))
    places, share = project_to_plane(flat)
    assert share == pytest.approx(1)
    assert np.linalg.norm(places[0] - places[1]) == pytest.approx(np.linalg.norm(flat[0] - flat[1]))
    assert (places.max(0) >= -places.min(0)).all()
    assert project_to_plane(flat[:1])[0].tolist() == [[0, 0]]


def test_a_row_of_zeros_stays_one():
    assert normalize_rows(np.zeros((1, 3))).tolist() == [[0, 0, 0]]
