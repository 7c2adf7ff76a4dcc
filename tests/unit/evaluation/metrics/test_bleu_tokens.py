"""BLEU's tokenizer is stored with the scores, and arms with different tokenizers are not compared."""

from pathlib import Path

import pytest

from delia_ray.core.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.metrics.task_metrics import resolve_bleu_tokenizer, score_rows
from delia_ray.evaluation.scoring import build_generations
from delia_ray.evaluation.stored import SCORES_KIND, compare_scores, read_scores, read_signatures, write_scores
from delia_ray.tasks.config import TranslationTask
from delia_ray.tasks.format_task import Prompt

TARGETS = ["昨天下了一整夜的雨。", "图书馆星期一不开门。", "他们坐早班火车去海边。"]
ANSWERS = ["昨天下了整夜的雨。", "图书馆周一不开门。", "他们坐早班火车去了海边。"]


class Request(Config):
    metric: tuple[str, ...]
    bleu_tokens: str | None


def stored(out: Path, bleu_tokens: str) -> Artifact:
    task = TranslationTask.model_validate(
        {
            "kind": "translation",
            "source_language": "English",
            "target_language": "Chinese",
            "pairs": {"kind": "file", "path": "p.tsv"},
            "metric": "bleu",
            "bleu_tokens": bleu_tokens,
        }
    )
    prompts = [Prompt(f"row {n}", "test", [{"role": "user", "content": "q"}], None, text) for n, text in enumerate(TARGETS)]
    rows, tokenizer = build_generations(prompts, ANSWERS, {}, {}), resolve_bleu_tokenizer(task, TARGETS)

    def write(workspace: Workspace) -> Counts:
        return write_scores(rows, score_rows(task, ANSWERS, TARGETS), ScoreConfig(resamples=1000), workspace.data, tokenizer)

    request = Request(metric=task.metric, bleu_tokens=tokenizer)
    return build_once(out, stage="t/1", kind=SCORES_KIND, request=request, inputs={}, provenance=Provenance(None, []), write=write)


def test_the_signature_of_stored_scores_names_the_tokenizer(tmp_path: Path) -> None:
    scores = stored(tmp_path / "auto", "auto")
    assert "tok:zh" in read_signatures(scores)["bleu"]
    value = read_scores(scores)["bleu"].value
    assert value is not None and 30 < value < 100


def test_arms_with_different_tokenizers_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"count BLEU by 'zh' and 'char'; score both again with one task\.bleu_tokens"):
        compare_scores(stored(tmp_path / "zh", "zh"), stored(tmp_path / "char", "char"), ScoreConfig(resamples=1000))
