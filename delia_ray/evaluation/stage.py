"""The stage ``scores``: generate a finished model's answers over the live endpoint, store them, and compute the metrics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import assert_never, cast

import pyarrow.parquet as pq
import ray

from delia_ray.core.artifacts import Adopted, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.fingerprint import hash_file
from delia_ray.core.progress import ProgressLine
from delia_ray.core.records import EvalExample
from delia_ray.evaluation.answer_cache import AnswerCache, CachedAnswers, remove_cached_answers
from delia_ray.evaluation.client import LocalTally, answer_prompts, check_served_model
from delia_ray.evaluation.config import Margins, ScoreConfig
from delia_ray.evaluation.kl_divergence import compute_answer_kl
from delia_ray.evaluation.metrics.task_metrics import (
    find_metric_files,
    get_metric_names,
    get_metric_pattern,
    resolve_bleu_tokenizer,
    score_rows,
)
from delia_ray.evaluation.scoring import GenerationRow, build_generations
from delia_ray.evaluation.statistics.intervals import Columns
from delia_ray.evaluation.stored import SCORES_KIND, read_generations, write_scores
from delia_ray.learned_metrics.config import LearnedMetrics
from delia_ray.learned_metrics.stage import compute_learned_scores, find_weight_files
from delia_ray.models.reasoning import strip_reasoning
from delia_ray.placement import Engine, LearnedMetricWorkers, Placement
from delia_ray.ray_runtime.cluster import Connect
from delia_ray.ray_runtime.tally import RayTally
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


@dataclass(frozen=True)
class ScoredModel:
    """The model to score, with the base model that it is compared with."""

    name: str
    """Its name at the endpoint."""
    model: Artifact
    base: Artifact
    """The base model."""
    base_scores: Artifact | None
    """The base model's scores, whose answers Retention uses; None if ``model`` is the base model, which uses its own answers."""
    meaning: str | None = None
    """Words that replace the token in the task's own prompts, which are then the only prompts."""


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
        rows, tokens = _get_generations(config, scored_model, prompts, base_url, placement.engine, line, out)
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


def _get_generations(
    config: ScoreConfig,
    scored_model: ScoredModel,
    prompts: Sequence[Prompt],
    base_url: Callable[[], str],
    engine: Engine,
    line: ProgressLine,
    out: Path,
) -> CachedAnswers:
    """Return the answer to every prompt with the comparison to the base model, from the cache if an earlier attempt got all answers."""
    stored_answers = None if scored_model.base_scores is None else _read_base_answers(scored_model.base_scores)

    def ask() -> CachedAnswers:
        answers, tokens = _generate_answers(base_url(), scored_model, prompts, config, engine, line)
        base_answers = _select_ordinary_answers(prompts, answers) if stored_answers is None else stored_answers
        divergences = _compute_divergences(scored_model.base, scored_model.model, prompts, base_answers, engine, line)
        return build_generations(prompts, answers, base_answers, divergences), tokens

    source = {"stage": STAGE, "model": scored_model.model.fingerprint, "base": scored_model.base.fingerprint, "dtype": engine.dtype}
    return AnswerCache(out, source, prompts, stored_answers, config).get_or_ask(ask)


def _read_targets(config: ScoreConfig, rewritten: Artifact) -> list[str]:
    rows: list[EvalExample] = pq.read_table(rewritten.data / f"{config.split}.parquet", columns=["messages"]).to_pylist()
    return [row["messages"][-1]["content"] for row in rows]


def _build_prompts(config: ScoreConfig, task: TaskConfig, rewritten: Artifact) -> list[Prompt]:
    """Build the prompts of every probe."""
    items: list[EvalExample] = pq.read_table(rewritten.data / f"{config.split}.parquet").to_pylist()
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


def _generate_answers(
    url: str, scored_model: ScoredModel, prompts: Sequence[Prompt], config: ScoreConfig, engine: Engine, line: ProgressLine
) -> tuple[list[str], int]:
    """Return the answers, and their number of tokens in all."""
    check_served_model(url, scored_model.name, scored_model.model.fingerprint)

    def max_tokens(prompt: Prompt) -> int:
        return config.ordinary_tokens if prompt.probe == "ordinary" else config.max_tokens

    tally = LocalTally()
    with line.track(tally, len(prompts), "answers"):
        answers = answer_prompts(url, scored_model.name, prompts, max_tokens, engine.max_num_seqs, tally)
    return answers, tally.read()[1]


def _select_ordinary_answers(prompts: Sequence[Prompt], answers: Sequence[str]) -> dict[str, str]:
    return {prompt.prompt_id: answer for prompt, answer in zip(prompts, answers, strict=True) if prompt.probe == "ordinary"}


def _read_base_answers(base_scores: Artifact) -> dict[str, str]:
    return {row["prompt_id"]: row["answer"] for row in read_generations(base_scores) if row["probe"] == "ordinary"}


def _compute_divergences(
    base: Artifact, model: Artifact, prompts: Sequence[Prompt], base_answers: Mapping[str, str], engine: Engine, line: ProgressLine
) -> dict[str, list[float]]:
    """Return prompt id -> KL at each token of the base model's answer, for the everyday prompts."""
    ordinary = [prompt for prompt in prompts if prompt.probe == "ordinary"]
    if not ordinary:
        return {}
    # The idle endpoint keeps its CPUs reserved. If it holds all of them, this task reserves none, or else it would wait forever.
    resources = cast(Mapping[str, float], ray.available_resources())  # pyright: ignore[reportUnknownMemberType]
    num_cpus = 1 if resources.get("CPU", 0.0) >= 1 else 0
    task = ray.remote(num_cpus=num_cpus, max_calls=1)(compute_answer_kl)  # the worker process ends and frees the memory of two models
    conversations = [(prompt.messages, base_answers[prompt.prompt_id]) for prompt in ordinary]
    tally = RayTally()
    with line.track(tally, len(ordinary), "comparisons"):
        divergences: list[list[float]] = ray.get(task.remote(base.data.resolve(), model.data.resolve(), conversations, engine.dtype, tally))
    return {prompt.prompt_id: values for prompt, values in zip(ordinary, divergences, strict=True)}
