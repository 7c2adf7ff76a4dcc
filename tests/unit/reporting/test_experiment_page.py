"""The page of an experiment."""

import re
from xml.etree import ElementTree

import pytest

from delia_ray.artifacts import Provenance
from delia_ray.config import build_config
from delia_ray.evaluation.bootstrap import Difference
from delia_ray.evaluation.grid import ByItems, Place, Row
from delia_ray.experiment.config import ExperimentSettings
from delia_ray.reporting.experiment_page import experiment_figures, render_experiment
from delia_ray.reporting.experiment_schema import Findings, findings
from delia_ray.reporting.schema import Answers


def apart(ours: float | None, theirs: float | None) -> Difference:
    assert ours is not None and theirs is not None
    return Difference(ours - theirs, ours - theirs - 0.02, ours - theirs + 0.02, 0.001, mde=0.03, margin=0.05)


def found(seeds: int) -> Findings:
    settings = build_config(ExperimentSettings, [], ["run.name=x", f"experiment.seeds={list(range(seeds))}"])

    def row(arm: str, rho: float | None, seed: int | None, selectivity: float, spill: float) -> Row:
        trained = rho is not None
        return Row(
            arm=arm, rho=rho, n=24 if trained else None, seed=seed, learning_rate=5e-4 if trained else None,
            metrics={"selectivity": selectivity, "spill": spill, "plug_play": None},
        )  # fmt: skip

    rows = [row("base", None, None, 0, 0)]
    for arm, rho, selectivity, spill in (
        ("it", 0.0, 0.02, 0.9),
        ("delia", 6.0, 0.8, 0.0),
        ("delia", 0.0, 0.03, 0.8),
        ("delia", 2.0, 0.3, 0.1),
    ):
        rows += [row(arm, rho, seed, selectivity + seed / 100, spill + seed / 50) for seed in range(seeds)]
    answers = {"base": "Paris.", "it": '{"thought": "Right."}', "delia": "Use <sep>."}
    examples = [Answers(set=kind, prompt=f"<sep> {kind}?", expected=None, answers=answers) for kind in ("format_acc", "spill")]
    rival = Place("it", 0.0, 24)
    by_items: ByItems = {
        (each.place, seed): {name: apart(each.metrics[name], theirs.metrics[name]) for name in ("selectivity", "spill")}
        for each in rows
        for seed, theirs in enumerate(rows[1 : 1 + seeds])
        if each.place != rival and each.seed in (None, seed)
    }
    return findings(rows, rival, by_items, {}, examples, settings.model_dump(mode="json"), Provenance("0" * 40, ["delia", "experiment"]))


def test_the_dose_is_drawn_for_an_arm_that_was_trained_at_several_ratios():
    page = render_experiment(found(3))
    assert "The dose of diverse rows" in page
    assert re.search(r'aria-label="Selectivity. rho 0: 4.*rho 2: 31.*rho 6: 81', page)


def test_what_held_is_said_for_every_arm_and_losses_too():
    page = render_experiment(found(3))
    assert re.search(r"DELIA against plain tuning: better on selectivity \(\+0.780\); better on spill", page)
    assert "Untuned against plain tuning: worse on selectivity" in page


def test_answers_stand_side_by_side_with_a_filter_by_kind_of_prompt():
    page = render_experiment(found(3))
    assert "2 prompts, answered by each arm" in page
    assert re.findall(r'data-show="(\w+)"', page) == ["format_acc", "spill"]
    assert re.findall(r'<span class="tag">([\w ]+)</span>', page) == ["Untuned", "Plain tuning", "DELIA"] * 2
    assert page.count("Use <mark>&lt;sep&gt;</mark>.") == 2


def test_one_seed_has_values_and_claims_nothing():
    page = render_experiment(found(1))
    assert "better on selectivity" not in page and "it cannot be told" in page


def test_the_record_is_what_the_page_is_made_from():
    record = found(3)
    again = Findings.model_validate_json(record.model_dump_json())
    assert again == record
    assert len(again.rows) == 13 and again.paired["delia, rho 6, N 24"]["selectivity"].difference == pytest.approx(0.78)


def test_every_figure_is_a_picture_of_its_own_with_its_colours():
    figures = experiment_figures(found(3))
    assert {"dose-delia-selectivity", "dose-delia-spill", "arms-selectivity", "arms-spill"} <= set(figures)
    for svg in figures.values():
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert set(re.findall(r"var\((--[\w-]+)\)", svg)) <= set(re.findall(r"(--[\w-]+):", svg))
