import json
import re

import pytest

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.probing.findings import ArmFacts, Change, Facts, Findings, Layer, Measured, Norms, Step, Update
from delia_ray.probing.verdict import predictions
from delia_ray.reporting.probe import render_probe

EVIL = "</p><script>alert(1)</script>"


def about(value: float) -> Interval:
    return Interval(value, value - 0.125, value + 0.125, 8)


@pytest.fixture
def found() -> Findings:
    arms = {"it": ArmFacts(ratio=0, learning_rate=1e-3, steps=4), EVIL: ArmFacts(ratio=2, learning_rate=1e-3, steps=4)}
    change = Change(fewer="it", more=EVIL, difference=-0.5, low=-0.75, high=-0.25)
    step = {"eta": 1.0, "pull": about(1.0), "predicted": about(1.0)}
    measured = Measured(
        facts=Facts(
            parameters=100, chosen=80, coordinates=40, rows=8, task_rows=8, fisher_rows=8, products=5, residuals=[0.001],
            answer_tokens=9, foreign="shuffled",
        ),
        arms=arms,
        norms={name: Norms(plain=about(3.0), corrected=about(2.0), tokens=90) for name in ("own", "pool", "foreign", "task")},
        foreign_minus_own=about(1.0),
        whole_cosines={"own": about(0.0), "pool": about(0.25), "foreign": about(0.5)},
        layers=[Layer(name=str(place), task_norm=1, diverse_norm=2, cosine=about(0.3)) for place in range(3)],
        steps=[Step(length=length, cosine=about(-0.4), **step) for length in (0.001, 0.01)],
        cosine_change=about(-0.4),
        eigenvalues=[about(5.0)],
        updates={arm: Update(whole=3, chosen=2, along=about(1.0), share=about(0.5)) for arm in arms},
        along=[change],
        share=[change],
        divergences={arm: about(0.7) for arm in arms},
        diverged=[change],
    )  # fmt: skip
    scored = {"format_acc": [change]}
    told = predictions(measured, scored, "format")
    return Findings(run="r", measured=measured, scores={"format_acc": {"it": about(0.5)}}, scored=scored, predictions=told)


def test_each_prediction_has_its_outcome_and_sentence_on_the_page(found: Findings):
    page = render_probe(found)
    for key, prediction in found.predictions.items():
        assert f"<strong>{key} {prediction.outcome}.</strong>" in page
    assert page.count("The numbers</summary>") == 5


def test_the_page_needs_nothing_beside_it_and_runs_nothing(found: Findings):
    page = render_probe(found)
    assert "<script" not in page and "http" not in page and " src=" not in page
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_every_number_of_a_table_is_there_in_full(found: Findings):
    values = [json.loads(text) for text in re.findall(r'data-value="([^"]*)"', render_probe(found))]
    assert {-0.5, 2.0, 3.0, 0.7, 5.0} <= set(values)


def test_without_held_out_rows_and_scores_the_page_says_so(found: Findings):
    bare = found.measured.model_copy(update={"divergences": {}, "diverged": []})
    told = predictions(bare, {}, "format")
    page = render_probe(found.model_copy(update={"measured": bare, "scores": {}, "scored": {}, "predictions": told}))
    assert "P4 not measured." in page and "P5 not measured." in page
    assert page.count("The numbers</summary>") == 3
