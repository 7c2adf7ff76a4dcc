import re

import numpy as np
import pyarrow as pa
import pytest

from delia_ray.reporting.page import render
from delia_ray.reporting.pool import MEASURES, render_pool
from delia_ray.synthesis.diversity import Diversity, describe_texts, describe_topics, with_vectors

EVIL = "</p><script>alert(1)</script>"
TEXTS = [f"{EVIL} is text {number} of many" for number in range(30)]
TOPICS = [EVIL, "gardening", ""] * 10
VECTORS = np.random.default_rng(0).normal(size=(30, 4))
NO_POINTS = pa.table({"column": pa.array([], pa.string()), "topic": pa.array([], pa.string()), "x": [], "y": []})
POINTS = pa.table({"column": ["queries", "answers"] * 30, "topic": TOPICS * 2, "x": np.arange(60.0), "y": np.arange(60.0)})


@pytest.fixture(scope="module")
def words_alone() -> Diversity:
    column = describe_texts(TEXTS, [9] * len(TEXTS), seed=0)
    return Diversity(exchanges=len(TEXTS), topics=describe_topics(TOPICS, seed=0), queries=column, answers=column)


@pytest.fixture(scope="module")
def found(words_alone: Diversity) -> Diversity:
    column = with_vectors(words_alone.queries, VECTORS, seed=0)
    return words_alone.model_copy(update={"queries": column, "answers": column})


def test_every_measure_says_which_way_is_more_diverse(found: Diversity):
    assert set(found.queries.measures) == set(MEASURES)
    page = render_pool(found, POINTS)
    assert all(f"<h3>{words.title}</h3>" in page for words in MEASURES.values())
    assert len(re.findall(r"(Higher|Lower) is more diverse\.", page)) == len(MEASURES)


def test_without_embeddings_the_page_shows_what_words_tell(words_alone: Diversity):
    page = render_pool(words_alone, NO_POINTS)
    assert "Self-BLEU" in page and "Vendi" not in page and ">Map<" not in page


def test_the_page_needs_nothing_beside_it_and_runs_nothing(found: Diversity):
    page = render_pool(found, POINTS)
    assert "<script" not in page and "http" not in page and " src=" not in page
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_the_runs_page_shows_the_pool_where_there_is_one(raw, finish, found: Diversity):
    assert "Self-BLEU" not in render(finish(raw))
    page = render(finish({**raw, "diversity": found.model_dump()}))
    assert "Self-BLEU" in page and "Vendi score" in page
