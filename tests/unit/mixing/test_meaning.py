import numpy as np
import pytest

from delia_ray.mixing.meaning import alike, planes_for, runs, sides, unit_halves

DIMENSIONS = 64


def planted(count: int, cosine: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows at random, and for each one more at just this cosine."""
    chance = np.random.default_rng(0)
    first = chance.standard_normal((count, DIMENSIONS))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    other = chance.standard_normal((count, DIMENSIONS))
    other -= (other * first).sum(1, keepdims=True) * first
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    return first, cosine * first + np.sqrt(1 - cosine**2) * other


def linked(rows: np.ndarray, cosine: float) -> set[tuple[int, int]]:
    unit, found = unit_halves(rows), set[tuple[int, int]]()
    for bucket in sides(unit, planes_for(cosine, len(rows))):
        for places in runs(bucket, np.arange(len(rows))):
            left, right = alike(unit[places], cosine)
            found |= {(min(pair), max(pair)) for pair in zip(places[left].tolist(), places[right].tolist(), strict=True)}
    return found


@pytest.mark.parametrize("cosine", [0.9, 0.96])
def test_planted_pairs_are_found_and_nothing_else(cosine: float) -> None:
    first, near = planted(2000, cosine + 0.01)
    _, far = planted(2000, cosine - 0.05)
    found = linked(np.concatenate([first, near, far]), cosine)
    truth = {(n, 2000 + n) for n in range(2000)}
    assert len(truth & found) >= 0.97 * len(truth)
    assert all(right - left == 2000 for left, right in found)


@pytest.mark.parametrize("rows", [1, 2, 1000, 100_000, 50_000_000])
@pytest.mark.parametrize("cosine", [0.5, 0.9, 0.99, 1.0])
def test_pairs_at_the_threshold_meet_in_some_band(cosine: float, rows: int) -> None:
    assert planes_for(cosine, rows).chance(1 - np.arccos(cosine) / np.pi) >= 0.97 - 1e-9


def test_the_buckets_of_a_row_do_not_depend_on_the_others() -> None:
    rows = unit_halves(planted(50, 0.9)[0])
    planes = planes_for(0.9, 5000)
    together = np.stack(list(sides(rows, planes)))
    assert (together == np.concatenate([np.stack(list(sides(rows[n : n + 1], planes))) for n in range(50)], axis=1)).all()


def test_a_crowded_bucket_is_compared_by_the_thousand() -> None:
    places = list(runs(np.zeros(2500, dtype=np.uint64), np.arange(2500)[::-1]))
    assert [len(part) for part in places] == [1024, 1024, 452]
    assert places[0][0] == 2499
