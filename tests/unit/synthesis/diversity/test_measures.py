import random

import numpy as np
import pytest

from delia_ray.synthesis.diversity.measures import Column, add_vector_measures, build_length_histogram, measure_texts, measure_topics

WORDS = [f"word{number}" for number in range(400)]


def texts(count: int, vocabulary: int) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS[:vocabulary], k=12)) for _ in range(count)]


def described(count: int, vocabulary: int) -> Column:
    return measure_texts(texts(count, vocabulary), [12] * count, seed=0)


def test_a_larger_pool_of_the_same_kind_is_not_called_less_diverse():
    small, large = described(250, 400), described(1000, 400)
    for name in ("distinct_2", "self_bleu", "compression_ratio"):
        assert small.measures[name].value == pytest.approx(large.measures[name].value, rel=0.05)


def test_a_narrower_pool_is_clear_of_the_intervals_of_a_wider_one():
    narrow, wide = described(500, 30), described(500, 400)
    assert narrow.measures["distinct_2"].high < wide.measures["distinct_2"].low
    assert narrow.measures["self_bleu"].low > wide.measures["self_bleu"].high
    assert narrow.measures["compression_ratio"].low > wide.measures["compression_ratio"].high


def test_a_pool_no_larger_than_a_sample_has_points_for_intervals():
    measures = measure_texts(["one text", "two texts here"], [3, 5], seed=0)
    topics = measure_topics(["a", "b"], seed=0)
    assert measures.texts == measures.sample_texts == 2
    assert topics.entropy.value == topics.entropy.low == topics.entropy.high == 1.0
    assert measures.words == pytest.approx((2.05, 2.5, 2.95))


def test_every_text_is_in_the_histogram_the_longest_in_the_last_bar():
    lengths = [0, 1, *range(100), 5_000]
    measures = build_length_histogram(lengths)
    assert sum(measures.counts) == len(lengths)
    assert len(measures.edges) == len(measures.counts) + 1 <= 22
    assert measures.edges[-1] < 5_000 and measures.counts[-1] > 0


def test_vectors_add_their_measures_and_change_no_other():
    column = described(250, 400)
    measures = add_vector_measures(column, np.random.default_rng(0).normal(size=(150, 16)), seed=0)
    assert (measures.embedded_texts, measures.sample_vectors) == (150, 100)
    assert measures.measures["vendi"].low < measures.measures["vendi"].value <= 16
    assert measures.nearest is not None and sum(measures.nearest.counts) == 150
    assert {name: measures.measures[name] for name in column.measures} == column.measures
