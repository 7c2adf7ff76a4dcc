"""Reading the scores artifact returns what was written, without the custom metric's function."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from delia_ray.core.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.evaluation.comparison import compare_arms
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.metrics.corpus_metrics import get_signature
from delia_ray.evaluation.metrics.task_metrics import score_rows
from delia_ray.evaluation.scoring import build_generations, estimate_metrics
from delia_ray.evaluation.stored import (
    SCORES_KIND,
    compare_scores,
    read_columns,
    read_generations,
    read_scores,
    read_signatures,
    write_scores,
)
from delia_ray.tasks.config import MessagesTask, TranslationTask
from delia_ray.tasks.format_task import Prompt

CONFIG = ScoreConfig(resamples=1000)
REFERENCES = ["No one was hurt.", "She sailed from Reykjavik.", "The budget was balanced.", "Fishing quotas were raised again."]
ANSWERS = {
    "base": ["no", "ship", "money", "fish"],
    "sft": ["No one was hurt.", "She went from Reykjavik.", "A budget.", "Fish quotas were raised."],
    "delia": ["No one was hurt.", "She sailed from Reykjavik.", "The budget was balanced.", "Fishing quotas were raised."],
}
TASK = TranslationTask.model_validate(
    {"kind": "translation", "source_language": "a", "target_language": "b", "pairs": {"kind": "file", "path": "p.tsv"}}
)


class Request(Config):
    metric: tuple[str, ...]
    arm: str


def stored(folder: Path, arm: str, task: MessagesTask | TranslationTask = TASK, answers: list[str] | None = None) -> Artifact:
    outputs = answers or ANSWERS[arm]
    prompts = [
        Prompt(f"row {n}", "test", [{"role": "user", "content": "q"}], None, text) for n, text in enumerate(REFERENCES[: len(outputs)])
    ]
    rows = build_generations(prompts, outputs, {}, {})

    def write(workspace: Workspace) -> Counts:
        return write_scores(rows, score_rows(task, outputs, REFERENCES[: len(outputs)]), CONFIG, workspace.data)

    request, origin = Request(metric=task.metric, arm=arm), Provenance(None, ["pytest"])
    return build_once(folder / arm, stage="t/1", kind=SCORES_KIND, request=request, inputs={}, provenance=origin, write=write)


def test_every_score_of_a_corpus_is_kept_with_its_signature(tmp_path: Path) -> None:
    scores = stored(tmp_path, "delia")
    stored_scores = json.loads((scores.data / "scores.json").read_text())
    assert stored_scores["chrf"]["signature"] == get_signature("chrf") and stored_scores["bleu"]["signature"] == get_signature("bleu")
    assert "signature" not in stored_scores["retention_kl"]
    assert read_signatures(scores) == {"chrf": get_signature("chrf"), "bleu": get_signature("bleu")}
    assert 90 < read_scores(scores)["chrf"].value < 100


def test_the_arrays_that_come_back_give_the_same_intervals(tmp_path: Path) -> None:
    scores = stored(tmp_path, "sft")
    assert estimate_metrics(read_columns(scores), CONFIG.seed, CONFIG.resamples) == read_scores(scores)
    assert pq.read_table(scores.data / "row_scores.parquet").column_names == ["prompt_id", "chrf", "bleu"]


def test_a_function_of_the_users_own_is_not_needed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "judge_stored.py"
    module.write_text("def half(output, reference):\n    return 0.5\n")
    task = MessagesTask.model_validate({"kind": "messages", "train": "a", "test": "b", "metric": ["judge_stored:half", "contains"]})
    left, right = (stored(tmp_path, arm, task) for arm in ("delia", "sft"))
    module.unlink()
    np.testing.assert_array_equal(read_columns(left).item_sets["test"]["judge_stored:half"], [0.5] * 4)
    assert compare_scores(left, right, CONFIG)["judge_stored:half"].p == 1.0
    assert read_generations(left)[0]["answer"] == "No one was hurt."


def test_arms_of_other_prompts_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hold answers to other prompts"):
        compare_scores(stored(tmp_path, "delia"), stored(tmp_path, "sft", answers=["a", "b"]), CONFIG)


def test_the_comparison_of_all_arms_has_what_the_report_needs(tmp_path: Path) -> None:
    scores = {arm: stored(tmp_path, arm) for arm in ANSWERS}
    comparison = compare_arms(scores, ("sft", "base"), CONFIG)
    assert comparison["constants"] == {}, "no answer is one of several"
    assert set(comparison["paired"]) == {"delia-sft", "sft-base", "delia-base"}
    chrf = {pair: metrics["chrf"] for pair, metrics in comparison["paired"].items()}
    assert chrf["delia-sft"]["p_holm"] == chrf["delia-sft"]["p"], "nothing else is compared with it"
    assert chrf["sft-base"]["p_holm"] == pytest.approx(min(1, 2 * chrf["sft-base"]["p"])), "two arms are compared with base"
    left, right = comparison["arms"]["delia"]["chrf"]["value"], comparison["arms"]["sft"]["chrf"]["value"]
    assert chrf["delia-sft"]["gain_percent"] == pytest.approx(100 * (left - right) / right)
    assert chrf["delia-sft"]["gain_low"] is None and "too few for an interval" in chrf["delia-sft"]["note"]
    assert comparison["signatures"] == {"chrf": get_signature("chrf"), "bleu": get_signature("bleu")}


LABELS = ["yes", "no"] * 40


def labeled(folder: Path, arm: str, predicted: list[str], wordings: int = 20) -> Artifact:
    """Scores of the built-in task for answers with the labels ``predicted``."""
    prompts = [
        Prompt(f"row {n}", "test", [{"role": "user", "content": "q"}], label, "{}", f"wording {n % wordings}")
        for n, label in enumerate(LABELS)
    ]
    rows = build_generations(prompts, [f'{{"thought": "t", "hallucination": "{each}"}}' for each in predicted], {}, {})

    def write(workspace: Workspace) -> Counts:
        return write_scores(rows, {}, CONFIG, workspace.data)

    request, origin = Request(metric=("format",), arm=arm), Provenance(None, ["pytest"])
    return build_once(folder / arm, stage="t/1", kind=SCORES_KIND, request=request, inputs={}, provenance=origin, write=write)


def test_clusters_and_what_they_leave_of_the_prompts_are_kept(tmp_path: Path) -> None:
    scores = labeled(tmp_path, "delia", [*LABELS[:60], *["yes"] * 20])
    stored_scores = json.loads((scores.data / "scores.json").read_text())["label_acc"]
    assert stored_scores["clusters"] == 20 and stored_scores["n"] == 80 and stored_scores["icc"] is not None
    assert stored_scores["effective_n"] <= 80
    assert {row["wording"] for row in read_generations(scores)} == {f"wording {n}" for n in range(20)}
    assert estimate_metrics(read_columns(scores), CONFIG.seed, CONFIG.resamples) == read_scores(scores)


def test_there_is_no_gain_over_what_always_yes_scores_too(tmp_path: Path) -> None:
    arms = {"delia": LABELS, "sft": ["yes"] * 80, "base": [*LABELS[:70], *["yes"] * 10]}
    scores = {arm: labeled(tmp_path, arm, predicted) for arm, predicted in arms.items()}
    comparison = compare_arms(scores, ("sft", "base"), CONFIG)
    assert comparison["constants"] == pytest.approx({"label_acc": 0.5, "bal_acc": 0.5, "f1_yes": 2 / 3})
    assert comparison["arms"]["sft"]["f1_yes"]["value"] == pytest.approx(2 / 3)
    assert comparison["paired"]["delia-sft"]["f1_yes"]["gain_percent"] is None
    assert comparison["paired"]["delia-base"]["f1_yes"]["gain_percent"] is not None


def test_every_difference_has_the_margin_of_its_kind_of_metric(tmp_path: Path) -> None:
    config = ScoreConfig.model_validate({"resamples": 1000, "margins": {"points": 2.5, "rates": 0.04}})
    corpus = compare_scores(stored(tmp_path, "delia"), stored(tmp_path, "sft"), config)
    assert (corpus["chrf"].margin, corpus["bleu"].margin, corpus["retention_match"].margin) == (2.5, 2.5, None)
    rates = compare_scores(labeled(tmp_path, "a", LABELS), labeled(tmp_path, "b", ["no"] * 80), config)
    assert (rates["label_acc"].margin, rates["spill"].margin) == (0.04, None), "spill was not asked"


def test_too_few_wordings_leave_the_comparison_without_an_interval(tmp_path: Path) -> None:
    difference = compare_scores(labeled(tmp_path, "a", LABELS, 4), labeled(tmp_path, "b", ["no"] * 80, 4), CONFIG)["label_acc"]
    assert (difference.difference, difference.low, difference.p) == (0.5, None, None)
    assert difference.note is not None and difference.note.startswith("80 items share 4 wordings")
