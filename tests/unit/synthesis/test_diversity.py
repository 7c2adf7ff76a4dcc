import math
import random

import pytest

from delia_ray.synthesis.diversity import compression_ratio, distinct, entropy, measure

WORDS = [f"word{number}" for number in range(400)]


def texts(count: int, vocabulary: int) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS[:vocabulary], k=12)) for _ in range(count)]


def test_distinct_counts_n_grams_within_texts_only():
    assert distinct([["a", "b"], ["a", "b"]], 1) == 0.5
    assert distinct([["a", "b"], ["b", "c"]], 2) == 1.0
    assert distinct([["a", "b", "a", "b"]], 2) == pytest.approx(2 / 3)
    assert distinct([["a"], []], 2) == 0.0


def test_repetition_raises_the_compression_ratio():
    assert compression_ratio(["the same text again"] * 50) > 10 * compression_ratio(["the same text again"])


def test_entropy_is_the_logarithm_of_equally_frequent_labels():
    assert entropy(["a", "b", "c", "d"] * 5) == pytest.approx(2)
    assert entropy(["a"] * 9) == 0
    assert entropy(["a", "a", "a", "b"]) == pytest.approx(0.75 * math.log2(4 / 3) + 0.25 * 2)


def test_a_larger_pool_of_the_same_kind_is_not_called_less_diverse():
    small, large = (measure(texts(count, 400), ["t"] * count) for count in (250, 2500))
    for name in ("distinct_2", "compression_ratio"):
        assert small[name]["value"] == pytest.approx(large[name]["value"], rel=0.05)  # pyright: ignore[reportIndexIssue]


def test_a_narrower_pool_is_clear_of_the_intervals_of_a_wider_one():
    narrow, wide = (measure(texts(500, vocabulary), ["t"] * 500) for vocabulary in (30, 400))
    assert narrow["distinct_2"]["high"] < wide["distinct_2"]["low"]  # pyright: ignore[reportIndexIssue]
    assert narrow["compression_ratio"]["low"] > wide["compression_ratio"]["high"]  # pyright: ignore[reportIndexIssue]


def test_a_pool_no_larger_than_a_sample_has_points_for_intervals():
    found = measure(["one text", "two texts here"], ["a", "b"])
    assert found["texts"] == found["sample_texts"] == 2
    assert found["topic_entropy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found["words"] == pytest.approx([2.05, 2.5, 2.95])
