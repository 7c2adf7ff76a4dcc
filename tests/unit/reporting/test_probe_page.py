import json
import re

import pytest

from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.probing.predictions.predictions import evaluate_predictions
from delia_ray.probing.predictions.schema import (
    ArmDifference,
    ArmFacts,
    Facts,
    GradientStep,
    LayerGradients,
    Measurements,
    Norms,
    ProbeReport,
    WeightUpdate,
)
from delia_ray.reporting.pages.probe_page import render_probe_page

EVIL = "</p><script>alert(1)</script>"


def make_interval(value: float) -> Interval:
    return Interval(value, value - 0.125, value + 0.125, 8)


@pytest.fixture
def findings() -> ProbeReport:
    arms = {"sft": ArmFacts(ratio=0, learning_rate=1e-3, steps=4), EVIL: ArmFacts(ratio=2, learning_rate=1e-3, steps=4)}
    change = ArmDifference(fewer="sft", more=EVIL, difference=-0.5, low=-0.75, high=-0.25)
    step = {"eta": 1.0, "pull": make_interval(1.0), "predicted": make_interval(1.0)}
    measured = Measurements(
        facts=Facts(
            parameters=100, chosen=80, coordinates=40, rows=8, task_rows=8, fisher_rows=8, products=5, residuals=[0.001],
            answer_tokens=9, foreign="shuffled",
        ),
        arms=arms,
        norms=dict.fromkeys(("own", "pool", "foreign", "task"), Norms(plain=make_interval(3.0), corrected=make_interval(2.0), tokens=90)),
        foreign_minus_own=make_interval(1.0),
        whole_cosines={"own": make_interval(0.0), "pool": make_interval(0.25), "foreign": make_interval(0.5)},
        layers=[LayerGradients(name=str(place), task_norm=1, diverse_norm=2, cosine=make_interval(0.3)) for place in range(3)],
        steps=[GradientStep(length=length, cosine=make_interval(-0.4), **step) for length in (0.001, 0.01)],
        cosine_change=make_interval(-0.4),
        eigenvalues=[make_interval(5.0)],
        updates={arm: WeightUpdate(whole=3, chosen=2, along=make_interval(1.0), share=make_interval(0.5)) for arm in arms},
        along=[change],
        share=[change],
        divergences={arm: make_interval(0.7) for arm in arms},
        diverged=[change],
    )  # fmt: skip
    scored = {"format_acc": [change]}
    outcomes = evaluate_predictions(measured, scored, "format")
    return ProbeReport(run="r", measured=measured, scores={"format_acc": {"sft": make_interval(0.5)}}, scored=scored, predictions=outcomes)


def test_each_prediction_has_its_outcome_and_sentence_on_the_page(findings: ProbeReport):
    page = render_probe_page(findings)
    for key, prediction in findings.predictions.items():
        assert f"<strong>{key} {prediction.outcome}.</strong>" in page
    assert page.count("The numbers</summary>") == 5


def test_the_page_needs_nothing_beside_it_and_runs_nothing(findings: ProbeReport):
    page = render_probe_page(findings)
    assert "<script" not in page and "http" not in page and " src=" not in page
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_every_number_of_a_table_is_there_in_full(findings: ProbeReport):
    values = [json.loads(text) for text in re.findall(r'data-value="([^"]*)"', render_probe_page(findings))]
    assert {-0.5, 2.0, 3.0, 0.7, 5.0} <= set(values)


def test_without_held_out_rows_and_scores_the_page_says_so(findings: ProbeReport):
    bare = findings.measured.model_copy(update={"divergences": {}, "diverged": []})
    outcomes = evaluate_predictions(bare, {}, "format")
    page = render_probe_page(findings.model_copy(update={"measured": bare, "scores": {}, "scored": {}, "predictions": outcomes}))
    assert "P4 not measured." in page and "P5 not measured." in page
    assert page.count("The numbers</summary>") == 3
