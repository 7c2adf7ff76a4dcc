"""The page of an experiment."""

import re
from xml.etree import ElementTree

import pytest

from delia_ray.core.artifacts import Provenance
from delia_ray.core.config import build_config
from delia_ray.evaluation.statistics.grid import GridPoint, ItemDifferences, ModelScores, SaturationCurve
from delia_ray.evaluation.statistics.intervals import PairedDifference
from delia_ray.pipeline.experiment.config import ExperimentSettings
from delia_ray.reporting.experiment_schema import ExperimentReport, build_experiment_report
from delia_ray.reporting.pages.experiment_page import draw_experiment_figures, render_experiment_page
from delia_ray.reporting.schema import PromptAnswers


def make_difference(ours: float | None, theirs: float | None) -> PairedDifference:
    assert ours is not None and theirs is not None
    return PairedDifference(ours - theirs, ours - theirs - 0.02, ours - theirs + 0.02, 0.001, mde=0.03, margin=0.05)


def make_report(seeds: int) -> ExperimentReport:
    settings = build_config(ExperimentSettings, [], ["run.name=x", f"experiment.seeds={list(range(seeds))}"])

    def row(arm: str, rho: float | None, seed: int | None, selectivity: float, spill: float) -> ModelScores:
        trained = rho is not None
        return ModelScores(
            arm=arm, rho=rho, n=24 if trained else None, seed=seed, learning_rate=5e-4 if trained else None,
            metrics={"selectivity": selectivity, "spill": spill, "plug_play": None},
        )  # fmt: skip

    rows = [row("base", None, None, 0, 0)]
    for arm, rho, selectivity, spill in (
        ("sft", 0.0, 0.02, 0.9),
        ("delia", 6.0, 0.8, 0.0),
        ("delia", 0.0, 0.03, 0.8),
        ("delia", 2.0, 0.3, 0.1),
    ):
        rows += [row(arm, rho, seed, selectivity + seed / 100, spill + seed / 50) for seed in range(seeds)]
    answers = {"base": "Paris.", "sft": '{"thought": "Right."}', "delia": "Use <sep>."}
    examples = [PromptAnswers(set=kind, prompt=f"<sep> {kind}?", expected=None, answers=answers) for kind in ("format_acc", "spill")]
    rival = GridPoint("sft", 0.0, 24)
    by_items: ItemDifferences = {
        (each.grid_point, seed): {name: make_difference(each.metrics[name], theirs.metrics[name]) for name in ("selectivity", "spill")}
        for each in rows
        for seed, theirs in enumerate(rows[1 : 1 + seeds])
        if each.grid_point != rival and each.seed in (None, seed)
    }
    return build_experiment_report(
        rows, rival, by_items, {}, examples, settings.model_dump(mode="json"), Provenance("0" * 40, ["delia", "experiment"])
    )


def test_scores_by_ratio_are_drawn_for_an_arm_that_was_trained_at_several_ratios():
    page = render_experiment_page(make_report(3))
    assert "Scores by the ratio of diverse rows" in page
    assert re.search(r'aria-label="Selectivity. rho 0: 4.*rho 2: 31.*rho 6: 81', page)


def test_a_curve_levels_off_only_where_the_ratios_that_were_tried_show_it():
    def sentences(scale: float) -> str:
        curve = SaturationCurve(start=0.05, rise=0.9, scale=scale, error=0.01)
        return render_experiment_page(make_report(3).model_copy(update={"fits": {"delia": {"selectivity": curve}}}))

    assert "It levels off toward 0.950 and has covered 95 % of the way at rho 4.5 " in sentences(1.5).replace("\u00a0", " ")
    assert "It does not level off up to rho 6 " in sentences(5.5)


def test_every_arm_is_compared_and_losses_are_stated():
    page = render_experiment_page(make_report(3))
    assert re.search(r"DELIA against plain tuning: better on selectivity \(\+0.780\); better on spill", page)
    assert "Untuned against plain tuning: worse on selectivity" in page


def test_answers_stand_side_by_side_with_a_filter_by_kind_of_prompt():
    page = render_experiment_page(make_report(3))
    assert "2 prompts, answered by each arm" in page
    assert re.findall(r'data-show="(\w+)"', page) == ["format_acc", "spill"]
    assert re.findall(r'<span class="tag">([\w ]+)</span>', page) == ["Untuned", "Plain tuning", "DELIA"] * 2
    assert page.count("Use <mark>&lt;sep&gt;</mark>.") == 2


def test_one_seed_has_values_and_claims_nothing():
    page = render_experiment_page(make_report(1))
    assert "better on selectivity" not in page and "cannot be told on 2 metrics" in page


def test_the_record_is_what_the_page_is_made_from():
    record = make_report(3)
    again = ExperimentReport.model_validate_json(record.model_dump_json())
    assert again == record
    assert len(again.rows) == 13 and again.paired["delia, rho 6, N 24"]["selectivity"].difference == pytest.approx(0.78)


def test_every_figure_is_a_picture_of_its_own_with_its_colors():
    figures = draw_experiment_figures(make_report(3))
    assert {"ratio-delia-selectivity", "ratio-delia-spill", "arms-selectivity", "arms-spill"} <= set(figures)
    for svg in figures.values():
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert set(re.findall(r"var\((--[\w-]+)\)", svg)) <= set(re.findall(r"(--[\w-]+):", svg))
