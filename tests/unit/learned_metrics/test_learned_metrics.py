"""Learned metrics: the checks that need none of their packages."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from delia_ray.core.errors import UserError
from delia_ray.learned_metrics.config import Bleurt, Comet, LearnedMetrics
from delia_ray.learned_metrics.stage import find_weight_files
from delia_ray.settings import Settings
from delia_ray.tasks.config import TranslationTask
from delia_ray.tasks.translation import extract_source_text

TASK = {
    "kind": "translation", "source_language": "Icelandic", "target_language": "English", "pairs": {"kind": "file", "path": "p.tsv"}
}  # fmt: skip


@pytest.fixture
def learned_metrics(tmp_path: Path) -> LearnedMetrics:
    comet, bleurt = tmp_path / "comet", tmp_path / "bleurt"
    (comet / "checkpoints").mkdir(parents=True)
    bleurt.mkdir()
    for file in (comet / "checkpoints/model.ckpt", comet / "hparams.yaml", bleurt / "config.json", bleurt / "model.safetensors"):
        file.write_text("x")
    return LearnedMetrics(comet=Comet(checkpoint=comet / "checkpoints/model.ckpt"), bleurt=Bleurt(weights=bleurt))


def test_every_file_of_a_metrics_weights_is_part_of_its_identity(learned_metrics: LearnedMetrics):
    files = find_weight_files(("chrf", "comet", "bleurt"), learned_metrics).values()
    assert sorted(file.name for file in files) == ["config.json", "hparams.yaml", "model.ckpt", "model.safetensors"]
    assert find_weight_files(("chrf",), learned_metrics) == {}


@pytest.mark.parametrize(
    ("metric", "missing", "complaint"),
    [
        (
            "comet",
            "comet/checkpoints/model.ckpt",
            r"learned_metrics\.comet\.checkpoint: there is no .*model\.ckpt; download .*wmt22-comet-da",
        ),
        ("comet", "comet/hparams.yaml", r"learned_metrics\.comet\.checkpoint: there is no .*hparams\.yaml"),
        ("bleurt", "bleurt/config.json", r"learned_metrics\.bleurt\.weights: there is no .*config\.json; download .*BLEURT-20"),
    ],
)
def test_weights_that_are_missing_are_named_with_where_to_get_them(
    learned_metrics: LearnedMetrics, tmp_path: Path, metric: str, missing: str, complaint: str
):
    (tmp_path / missing).unlink()
    with pytest.raises(UserError, match=complaint):
        find_weight_files((metric,), learned_metrics)


@pytest.mark.parametrize("metric", ["comet", "bleurt"])
def test_a_learned_metric_without_weights_is_refused(metric: str):
    config: dict[str, Any] = {"run": {"name": "r"}, "task": {**TASK, "metric": ["chrf", metric]}}
    with pytest.raises(
        ValidationError, match=rf"learned_metrics\.{metric}: task\.metric names {metric}, and its weights are not configured"
    ):
        Settings.model_validate(config)


@pytest.mark.parametrize("wording", [None, "Put this into English, please."])
def test_the_source_is_the_text_below_the_wording(wording: str | None):
    task = TranslationTask.model_validate(TASK)
    assert extract_source_text(f"{wording or task.resolved_instruction}\n\nHundur.\n\nKöttur.") == "Hundur.\n\nKöttur."
