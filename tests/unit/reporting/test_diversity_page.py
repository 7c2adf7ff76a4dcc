import re

import numpy as np
import pyarrow as pa
import pytest

from delia_ray.reporting.pages.diversity_page import MEASURES, render_diversity_page
from delia_ray.reporting.pages.report_page import render_report_page
from delia_ray.synthesis.diversity.measures import Diversity, add_vector_measures, measure_texts, measure_topics

EVIL = "</p><script>alert(1)</script>"
TEXTS = [f"{EVIL} is text {i} of many" for i in range(30)]
TOPICS = [EVIL, "gardening", ""] * 10
VECTORS = np.random.default_rng(0).normal(size=(30, 4))
NO_POINTS = pa.table({"column": pa.array([], pa.string()), "topic": pa.array([], pa.string()), "x": [], "y": []})
POINTS = pa.table({"column": ["queries", "answers"] * 30, "topic": TOPICS * 2, "x": np.arange(60.0), "y": np.arange(60.0)})


@pytest.fixture(scope="module")
def words_alone() -> Diversity:
    column = measure_texts(TEXTS, [9] * len(TEXTS), seed=0)
    return Diversity(exchanges=len(TEXTS), topics=measure_topics(TOPICS, seed=0), queries=column, answers=column)


@pytest.fixture(scope="module")
def diversity(words_alone: Diversity) -> Diversity:
    column = add_vector_measures(words_alone.queries, VECTORS, seed=0)
    return words_alone.model_copy(update={"queries": column, "answers": column})


def test_every_measure_says_which_way_is_more_diverse(diversity: Diversity):
    assert set(diversity.queries.measures) == set(MEASURES)
    page = render_diversity_page(diversity, POINTS)
    assert all(f"<h3>{words.title}</h3>" in page for words in MEASURES.values())
    assert len(re.findall(r"(Higher|Lower) is more diverse\.", page)) == len(MEASURES)


def test_without_embeddings_the_page_shows_what_words_tell(words_alone: Diversity):
    page = render_diversity_page(words_alone, NO_POINTS)
    assert "Self-BLEU" in page and "Vendi" not in page and ">Map<" not in page


def test_the_page_needs_nothing_beside_it_and_runs_nothing(diversity: Diversity):
    page = render_diversity_page(diversity, POINTS)
    assert "<script" not in page and "http" not in page and " src=" not in page
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_the_runs_page_shows_the_pool_where_there_is_one(raw, complete_report, diversity: Diversity):
    assert "Self-BLEU" not in render_report_page(complete_report(raw))
    page = render_report_page(complete_report({**raw, "diversity": diversity.model_dump()}))
    assert "Self-BLEU" in page and "Vendi score" in page
