"""The stage ``scores``: generate a finished model's answers over the live endpoint, store them, and compute the metrics."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import assert_never

import pyarrow.parquet as pq

from delia_ray.core.artifacts import Adopted, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.fingerprint import hash_file
from delia_ray.core.progress import ProgressLine
from delia_ray.core.records import EvalExample
from delia_ray.evaluation.answer_cache import remove_cached_answers
from delia_ray.evaluation.config import Margins, ScoreConfig
from delia_ray.evaluation.generations import ScoredModel, get_generations
from delia_ray.evaluation.metrics.task_metrics import (
    find_metric_files,
    get_metric_names,
    get_metric_pattern,
    resolve_bleu_tokenizer,
    score_rows,
)
from delia_ray.evaluation.scoring import GenerationRow
from delia_ray.evaluation.statistics.intervals import Columns
from delia_ray.evaluation.stored import SCORES_KIND, write_scores
from delia_ray.learned_metrics.config import LearnedMetrics
from delia_ray.learned_metrics.stage import compute_learned_scores, find_weight_files
from delia_ray.models.reasoning import strip_reasoning
from delia_ray.placement import LearnedMetricWorkers, Placement
from delia_ray.ray_runtime.cluster import Connect
from delia_ray.tasks.config import FormatTask, MessagesTask, TaskConfig, TranslationTask
from delia_ray.tasks.format_task import Prompt, build_format_prompts, build_test_prompt, load_ordinary_prompts, spell_out_token
from delia_ray.tasks.translation import extract_source_text

STAGE = "scores/4"


class ScoreRequest(Config):
    """Everything that the scores of one model depend on, besides its inputs."""

    score: ScoreConfig
    token: str | None
    """The new token that the prompts name, if any."""
    metric: tuple[str, ...]
    """``task.metric``."""
    pattern: str | None
    """``task.pattern``."""
    bleu_tokens: str | None
    """BLEU's tokenizer. null: ``task.metric`` has no BLEU."""
    meaning: str | None
    """Words that replace the token in the task's prompts. null: the prompts name the token, and there are prompts of every probe."""


def score(
    config: ScoreConfig,
    task: TaskConfig,
    learned_metrics: LearnedMetrics,
    scored_model: ScoredModel,
    rewritten: Artifact,
    base_url: Callable[[], str],
    connect: Connect,
    line: ProgressLine,
    placement: Placement,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Generate a model's answers over the live endpoint, and store the answers and the scores at ``out`` (see ``stored``).

    Args:
        learned_metrics: weights of the learned metrics that ``task.metric`` names.
        base_url: opens the endpoint on the first call and returns its URL, ``/v1`` included.

    Raises:
        UserError: the endpoint serves another build or refuses a prompt; the split has no rows; ``task.metric`` cannot be computed.
    """
    base, base_scores = scored_model.base, scored_model.base_scores
    assert (base_scores is None) == (scored_model.model.fingerprint == base.fingerprint), "Retention needs the base model's own answers"

    def write(workspace: Workspace) -> Counts:
        meaning = scored_model.meaning
        prompts = _build_prompts(config, task, rewritten) if meaning is None else _spell_out_prompts(config, task, rewritten, meaning)
        connect()
        rows, tokens = get_generations(STAGE, config, scored_model, prompts, base_url, connect, placement, line, out)
        row_scores = _score_test_rows(task, learned_metrics, rows, placement.learned_metrics)
        return {"tokens": tokens, **write_scores(rows, row_scores, config, workspace.data, bleu_tokenizer)}

    bleu_tokenizer = resolve_bleu_tokenizer(task, _read_targets(config, rewritten))
    request = _build_request(config, task, bleu_tokenizer, scored_model.meaning)
    files, base_inputs = collect_metric_inputs(task, learned_metrics), {"base_scores": base_scores} if base_scores else {}
    inputs: dict[str, Input] = {"model": scored_model.model, "base": base, "rewritten": rewritten, **files, **base_inputs}
    scores = build_once(out, stage=STAGE, kind=SCORES_KIND, request=request, inputs=inputs, provenance=provenance, write=write)
    remove_cached_answers(out)
    return scores


def _build_request(config: ScoreConfig, task: TaskConfig, bleu_tokenizer: str | None, meaning: str | None) -> ScoreRequest:
    # The margins affect the comparison of arms, not the scores of one of them.
    without_margins, names, pattern = config.model_copy(update={"margins": Margins()}), get_metric_names(task), get_metric_pattern(task)
    return ScoreRequest(score=without_margins, token=task.token, metric=names, pattern=pattern, bleu_tokens=bleu_tokenizer, meaning=meaning)


def collect_metric_inputs(task: TaskConfig, learned_metrics: LearnedMetrics) -> dict[str, Input]:
    """Return the files that the task's metrics depend on, with the hashes of their content.

    Raises:
        UserError: weights of a learned metric are missing.
    """
    weights = find_weight_files(get_metric_names(task), learned_metrics)
    return {
        **{role: Adopted(file, hash_file(file)) for role, file in find_metric_files(task).items()},
        **{role: Adopted(file, _hash_file_cached(file, file.stat().st_mtime_ns)) for role, file in weights.items()},
    }


@cache
def _hash_file_cached(file: Path, modified_ns: int) -> str:
    """Hash a weight file once for all arms, since it may have gigabytes; ``modified_ns`` invalidates the cache when it is rewritten."""
    return hash_file(file)


def _score_test_rows(
    task: TaskConfig, learned_metrics: LearnedMetrics, rows: Sequence[GenerationRow], workers: LearnedMetricWorkers
) -> Columns:
    """Compute the task's own metrics of the test rows, in the order of ``task.metric``."""
    test_rows = [row for row in rows if row["probe"] == "test"]
    outputs, targets = [strip_reasoning(row["answer"]) for row in test_rows], [row["expected"] or "" for row in test_rows]
    prompts = [row["messages"][-1]["content"] for row in test_rows]
    sources = [extract_source_text(prompt) for prompt in prompts] if isinstance(task, TranslationTask) else prompts
    samples = list(zip(sources, outputs, targets, strict=True))
    learned = compute_learned_scores(get_metric_names(task), learned_metrics, samples, workers)
    scores = {**score_rows(task, outputs, targets), **learned}
    return {name: scores[name] for name in get_metric_names(task) if name in scores}


def _read_targets(config: ScoreConfig, rewritten: Artifact) -> list[str]:
    rows: list[EvalExample] = pq.read_table(rewritten.fetch(f"{config.split}.parquet"), columns=["messages"]).to_pylist()
    return [row["messages"][-1]["content"] for row in rows]


def _build_prompts(config: ScoreConfig, task: TaskConfig, rewritten: Artifact) -> list[Prompt]:
    """Build the prompts of every probe."""
    items: list[EvalExample] = pq.read_table(rewritten.fetch(f"{config.split}.parquet")).to_pylist()
    if not items:
        raise UserError(
            f"score.split: the task has no {config.split} rows to score; set score.split=test, or give the task {config.split} rows"
        )
    match task:
        case FormatTask(token=token):
            probes = ("no_token", "false_trigger", "plug_play", "ordinary")
            return build_format_prompts(token, items, {probe: getattr(config, probe) for probe in probes}, config.split)
        case MessagesTask() | TranslationTask():
            return [build_test_prompt(row) for row in items] + load_ordinary_prompts(config.ordinary, config.split)
        case _:
            assert_never(task)


def _spell_out_prompts(config: ScoreConfig, task: TaskConfig, rewritten: Artifact, meaning: str) -> list[Prompt]:
    """Build the task's own prompts, with ``meaning`` in place of the token."""
    assert task.token is not None, "only a task with a token has a meaning to spell out"
    return spell_out_token(_build_prompts(config, task, rewritten), task.token, meaning)
