import re
from typing import Any

import pytest

from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.probing.tokens.schema import Band, Distances, Leak, ModelResult, Ranks, RowResult, TokenReport, VocabularyEntry
from delia_ray.reporting.pages.tokens_page import find_best_lens_rank, render_tokens_page, show_whitespace
from delia_ray.reporting.wording.token_headline import count_places, summarize_arms

EVIL = "</p><script>alert(1)</script>"
LAYERS = 4
CONCEPTS = ("json", EVIL)


def band(value: float, half: float = 0.01) -> Band:
    return Band(value=[value] * LAYERS, low=[value - half] * LAYERS, high=[value + half] * LAYERS)


def estimate(value: float, half: float = 0.05) -> Interval:
    return Interval(value=value, low=value - half, high=value + half, n=20)


def row(distance: float, *, moved: float = 1.0, substitution: bool = True, in_format: bool = True) -> RowResult:
    each = Distances(
        cosine=band(1 - distance / 2), euclidean=band(10 * distance), normalized=band(distance), further=[1 - distance] * LAYERS
    )
    return RowResult(
        distances=dict.fromkeys(CONCEPTS, each),
        random_cosine=[0.1] * LAYERS,
        ranks=dict.fromkeys(CONCEPTS, Ranks(input=round(1000 * distance), output=7, lens=[40, 30, 9, 20])),
        neighbors=[VocabularyEntry(text=f" {EVIL}", value=0.9), VocabularyEntry(text="\n", value=0.8)],
        lens=[[VocabularyEntry(text=f" {EVIL}", value=0.5)]] * LAYERS,
        substitution=estimate(distance) if substitution else None,
        negated=estimate(0.2),
        asked=estimate(moved),
        leak=Leak(words=estimate(0.25), format=estimate(0.5) if in_format else None),
    )


def report(**changes: Any) -> TokenReport:
    noise = row(0.99, **changes)
    models = {"base": ModelResult(scale=[1.0] * LAYERS, rows={"own": row(0.9, **changes), "noise": noise})}
    for arm, distance in (("sft", 0.9), ("delia", 0.5)):
        models[arm] = ModelResult(
            scale=[1.0] * LAYERS, rows={"own": row(distance, **changes), "fresh": row(0.9, **changes), "noise": noise}
        )
    return TokenReport(
        token="<sep>", carriers=64, random_words=200, pieces="mean", meaning=EVIL, leak_words=["JSON"],
        concepts={"json": [" json"], EVIL: [" <", "/p>"]}, models=models,
    )  # fmt: skip


def make_answers(report: TokenReport) -> list[dict[str, Any]]:
    return [
        {"arm": arm, "row": name, "probe": "leak", "prompt": "What does <sep> mean?", "answer": f"{arm} {name} {EVIL}"}
        for arm, model in report.models.items()
        for name in model.rows
    ]


def sentence(report: TokenReport, arm: str, start: str) -> str:
    [own] = [summary for summary in summarize_arms(report) if summary.arm == arm]
    [match] = [each for each in own.sentences if each.startswith(start)]
    return match


def test_the_page_needs_nothing_beside_it_and_runs_nothing():
    page = render_tokens_page(report(), make_answers(report()))
    assert "<script" not in page and "http" not in page and " src=" not in page
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_every_model_shows_its_own_answers_and_not_those_of_other_rows():
    page = render_tokens_page(report(), make_answers(report()))
    for arm in ("base", "sft", "delia"):
        assert f"{arm} own" in page
    assert "fresh &lt;" not in page and "noise &lt;" not in page


def test_places_count_only_where_intervals_are_apart():
    near, far = row(0.5), row(0.9)
    assert count_places(near, far) == (8, 0, 8)
    assert count_places(far, near) == (0, 8, 8)
    assert count_places(near, row(0.515)) == (0, 0, 8)


def test_the_sentences_of_a_token_that_learned_nothing_claim_no_change():
    assert "at 0 of 8 places" in sentence(report(), "sft", "Distance") and "further away at 0" in sentence(report(), "sft", "Distance")
    assert "no difference was found" in sentence(report(), "sft", "Substitution")
    assert "at 8 of 8 places" in sentence(report(), "delia", "Distance")
    assert "replaces more of the instruction than an untrained token does" in sentence(report(), "delia", "Substitution")
    assert "at rank 500 in the vocabulary; before training its rank was 900" in sentence(report(), "delia", "Embedding")


@pytest.mark.parametrize(
    ("moved", "verdict"),
    [(1.0, "the model tells “do not” from “do”"), (0.25, "the model does not tell"), (0.0, "changes them even more than")],
)
def test_the_sentence_on_negation_follows_the_intervals(moved: float, verdict: str):
    assert verdict in sentence(report(moved=moved), "delia", "Negation")


def test_a_task_without_a_meaning_or_a_format_has_no_sentences_about_them():
    bare = report(substitution=False, in_format=False)
    page = render_tokens_page(bare, make_answers(bare))
    assert "<h3>Instead of the instruction" not in page and "<h3>Answers in the format" not in page
    assert "<h3>Told not to use it" in page
    assert not [each for summary in summarize_arms(bare) for each in summary.sentences if "Substitution" in each or "in the format" in each]


def test_white_space_in_vocabulary_entries_can_be_seen():
    assert show_whitespace(" a\n\t") == "␣a↵→"


def test_the_best_rank_under_the_lens_has_its_layer():
    assert find_best_lens_rank(row(0.5), "json") == (9, 2)
