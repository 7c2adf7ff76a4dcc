import numpy as np
import pytest

from delia_ray.mixing.semantic_dedup import bucket_vectors, choose_planes, find_similar_pairs, normalize_rows, split_buckets

DIMENSIONS = 64


def plant_pairs(count: int, cosine: float) -> tuple[np.ndarray, np.ndarray]:
    """Make random rows of length 1, and for each a second one with exactly this cosine."""
    rng = np.random.default_rng(0)
    first = rng.standard_normal((count, DIMENSIONS))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    other = rng.standard_normal((count, DIMENSIONS))
    other -= (other * first).sum(1, keepdims=True) * first
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    return first, cosine * first + np.sqrt(1 - cosine**2) * other


def find_pairs(rows: np.ndarray, cosine: float) -> set[tuple[int, int]]:
    unit, pairs = normalize_rows(rows), set[tuple[int, int]]()
    for bucket in bucket_vectors(unit, choose_planes(cosine, len(rows))):
        for indices in split_buckets(bucket, np.arange(len(rows))):
            left, right = find_similar_pairs(unit[indices], cosine)
            pairs |= {(min(pair), max(pair)) for pair in zip(indices[left].tolist(), indices[right].tolist(), strict=True)}
    return pairs


@pytest.mark.parametrize("cosine", [0.9, 0.96])
def test_planted_pairs_are_found_and_nothing_else(cosine: float) -> None:
    first, near = plant_pairs(2000, cosine + 0.01)
    _, far = plant_pairs(2000, cosine - 0.05)
    pairs = find_pairs(np.concatenate([first, near, far]), cosine)
    truth = {(n, 2000 + n) for n in range(2000)}
    assert len(truth & pairs) >= 0.97 * len(truth)
    assert all(right - left == 2000 for left, right in pairs)


@pytest.mark.parametrize("rows", [1, 2, 1000, 100_000, 50_000_000])
@pytest.mark.parametrize("cosine", [0.5, 0.9, 0.99, 1.0])
def test_pairs_at_the_threshold_meet_in_some_band(cosine: float, rows: int) -> None:
    planes, same_side = choose_planes(cosine, rows), 1 - np.arccos(cosine) / np.pi
    assert 1 - (1 - same_side**planes.rows) ** planes.count >= 0.97 - 1e-9


def test_the_buckets_of_a_row_do_not_depend_on_the_others() -> None:
    rows = normalize_rows(plant_pairs(50, 0.9)[0])
    planes = choose_planes(0.9, 5000)
    together = np.stack(list(bucket_vectors(rows, planes)))
    assert (together == np.concatenate([np.stack(list(bucket_vectors(rows[n : n + 1], planes))) for n in range(50)], axis=1)).all()


def test_a_crowded_bucket_is_compared_by_the_thousand() -> None:
    parts = list(split_buckets(np.zeros(2500, dtype=np.uint64), np.arange(2500)[::-1]))
    assert [len(part) for part in parts] == [1024, 1024, 452]
    assert parts[0][0] == 2499
