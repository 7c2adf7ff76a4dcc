"""The answers of a model that are scored: asked for over the live endpoint, and compared with the base model's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ray

from delia_ray.core.artifacts import Artifact
from delia_ray.core.progress import ProgressLine
from delia_ray.evaluation.answer_cache import AnswerCache, AnswerLog, CachedAnswers
from delia_ray.evaluation.client import Asking, LocalTally, answer_prompts, check_served_model
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.kl_divergence import compute_answer_kl
from delia_ray.evaluation.scoring import build_generations
from delia_ray.evaluation.stored import read_generations
from delia_ray.placement import Placement
from delia_ray.ray_runtime.capacity import demand_of_one
from delia_ray.ray_runtime.cluster import Connect
from delia_ray.ray_runtime.resources import get_light_task_options
from delia_ray.ray_runtime.tally import RayTally
from delia_ray.ray_runtime.tasks import get_result
from delia_ray.tasks.format_task import Prompt


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


def get_generations(
    stage: str,
    config: ScoreConfig,
    scored_model: ScoredModel,
    prompts: Sequence[Prompt],
    base_url: Callable[[], str],
    connect: Connect,
    placement: Placement,
    line: ProgressLine,
    out: Path,
) -> CachedAnswers:
    """Return the answer to every prompt with the comparison to the base model, from the cache if an earlier attempt got all answers.

    Args:
        stage: name and version of the stage, which the cache depends on.
        base_url: opens the endpoint.
        out: folder of the scores, beside which the cache lies.
    """
    stored_answers = None if scored_model.base_scores is None else _read_base_answers(scored_model.base_scores)

    def ask() -> CachedAnswers:
        answers, tokens = _generate_answers(base_url(), scored_model, prompts, config, placement, line, cache.log)
        base_answers = _select_ordinary_answers(prompts, answers) if stored_answers is None else stored_answers
        divergences = _compute_divergences(scored_model, prompts, base_answers, connect, placement, line)
        return build_generations(prompts, answers, base_answers, divergences), tokens

    fingerprints = {"model": scored_model.model.fingerprint, "base": scored_model.base.fingerprint}
    source = {"stage": stage, **fingerprints, "dtype": placement.engine.dtype}
    cache = AnswerCache(out, source, prompts, stored_answers, config)
    return cache.get_or_ask(ask)


def _generate_answers(
    url: str,
    scored_model: ScoredModel,
    prompts: Sequence[Prompt],
    config: ScoreConfig,
    placement: Placement,
    line: ProgressLine,
    log: AnswerLog,
) -> tuple[list[str], int]:
    """Return the answers, and their number of tokens in all."""
    check_served_model(url, scored_model.name, scored_model.model.fingerprint)

    def max_tokens(prompt: Prompt) -> int:
        return config.ordinary_tokens if prompt.probe == "ordinary" else config.max_tokens

    tally = LocalTally()
    with line.track(tally, len(prompts), "answers"):
        asking = Asking(url, scored_model.name, placement.engine.max_num_seqs, placement.serve.patience_s)
        answers = answer_prompts(asking, prompts, max_tokens, tally, log)
    return answers, tally.read()[1]


def _select_ordinary_answers(prompts: Sequence[Prompt], answers: Sequence[str]) -> dict[str, str]:
    return {prompt.prompt_id: answer for prompt, answer in zip(prompts, answers, strict=True) if prompt.probe == "ordinary"}


def _read_base_answers(base_scores: Artifact) -> dict[str, str]:
    return {row["prompt_id"]: row["answer"] for row in read_generations(base_scores) if row["probe"] == "ordinary"}


def _compute_divergences(
    scored_model: ScoredModel,
    prompts: Sequence[Prompt],
    base_answers: Mapping[str, str],
    connect: Connect,
    placement: Placement,
    line: ProgressLine,
) -> dict[str, list[float]]:
    """Return prompt id -> KL at each token of the base model's answer, for the everyday prompts."""
    ordinary = [prompt for prompt in prompts if prompt.probe == "ordinary"]
    if not ordinary:
        return {}
    if placement.serve.num_gpus:
        connect(demand_of_one(1, 1, "placement.serve"))  # the endpoint is closed if it holds the last GPU
        options: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1}
    else:
        # The idle endpoint keeps its CPUs reserved. If it holds all of them, this task reserves none, or else it would wait forever.
        resources = cast(Mapping[str, float], ray.available_resources())  # pyright: ignore[reportUnknownMemberType]
        options = {"num_cpus": 1} if resources.get("CPU", 0.0) >= 1 else get_light_task_options()
    task: Any = ray.remote(max_calls=1, **options)(compute_answer_kl)  # the process ends and frees the memory of two models
    base, model = scored_model.base, scored_model.model
    conversations = [(prompt.messages, base_answers[prompt.prompt_id]) for prompt in ordinary]
    tally = RayTally()
    with line.track(tally, len(ordinary), "comparisons"):
        divergences: list[list[float]] = get_result(
            task.remote(base.data.resolve(), model.data.resolve(), conversations, placement.engine.dtype, tally)
        )
    return {prompt.prompt_id: values for prompt, values in zip(ordinary, divergences, strict=True)}
