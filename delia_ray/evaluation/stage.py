"""The stage ``scores``: ask a finished model over the live endpoint, keep every answer, and measure."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import assert_never, cast

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from delia_ray.artifacts import Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.evaluation import scoring
from delia_ray.evaluation.bootstrap import Difference, Interval
from delia_ray.evaluation.client import LocalTally, answer_all, check_served
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.divergence import token_divergences
from delia_ray.evaluation.scoring import GENERATION_SCHEMA, ArmColumns, Generation
from delia_ray.evaluation.text_metrics import METRICS
from delia_ray.placement import Engine
from delia_ray.progress import Line
from delia_ray.records import Example
from delia_ray.runtime import Connect, RayTally
from delia_ray.tasks.config import FormatTask, MessagesTask
from delia_ray.tasks.formatted import Prompt, format_prompts, ordinary_prompts

STAGE = "scores/1"
SCORES_KIND = "scores/1"
_GENERATIONS = "generations.parquet"
_SCORES = "scores.json"


class ScoreRequest(Config):
    """What makes one model's scores different from another's."""

    score: ScoreConfig
    token: str | None
    """The new token that the prompts name, if any."""
    metric: str
    """``task.metric``."""


def score(
    config: ScoreConfig,
    task: FormatTask | MessagesTask,
    arm: str,
    model: Artifact,
    base: Artifact,
    base_scores: Artifact | None,
    rewritten: Artifact,
    base_url: Callable[[], str],
    connect: Connect,
    line: Line,
    engine: Engine,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Ask ``model`` everything, and store ``generations.parquet`` and ``scores.json`` at ``out``.

    Args:
        arm: the model's name at the endpoint.
        base: the start model; ``model`` itself when that is what is scored.
        base_scores: its scores, whose answers Retention follows; null when ``model`` is ``base`` and follows its own.
        base_url: opens the endpoint when first needed; its address, ``/v1`` included.

    Raises:
        UserError: the endpoint serves another build or refuses a prompt; the split has no rows; a target does not fit ``task.metric``.
    """
    assert (base_scores is None) == (model.fingerprint == base.fingerprint), "Retention follows the start model's own answers"
    request = ScoreRequest(score=config, token=task.token, metric=task.metric)

    def write(workspace: Workspace) -> Counts:
        prompts = _prompts(config, task, rewritten)
        connect()
        answers, tokens = _answers(base_url(), arm, model, prompts, config, engine, line)
        base_answers = _ordinary_answers(prompts, answers) if base_scores is None else _kept_answers(base_scores)
        rows = scoring.generations(prompts, answers, base_answers, _divergences(base, model, prompts, base_answers, engine, line))
        return {"tokens": tokens, **_store(rows, request, workspace.data)}

    inputs: dict[str, Input] = {"model": model, "base": base, "rewritten": rewritten}
    inputs |= {"base_scores": base_scores} if base_scores else {}
    return build_once(out, stage=STAGE, kind=SCORES_KIND, request=request, inputs=inputs, provenance=provenance, write=write)


def read_generations(scores: Artifact) -> list[Generation]:
    """Every prompt and answer, in the order asked."""
    return pq.read_table(scores.data / _GENERATIONS, schema=GENERATION_SCHEMA).to_pylist()


def read_scores(scores: Artifact) -> dict[str, Interval]:
    """Metric -> value and interval."""
    return {name: Interval(**fields) for name, fields in json.loads((scores.data / _SCORES).read_text()).items()}


def read_columns(scores: Artifact) -> ArmColumns:
    """The arrays behind the metrics, for a comparison of arms."""
    return scoring.columns(read_generations(scores), scores.manifest.request["metric"])


def compare_scores(left: Artifact, right: Artifact, config: ScoreConfig) -> dict[str, Difference]:
    """Every metric of ``left`` minus that of ``right``, by paired bootstrap with ``config``'s seed and resamples.

    Raises:
        UserError: the two were not asked the same prompts.
    """
    lefts, rights = read_columns(left), read_columns(right)
    if (lefts.metric, lefts.ids) != (rights.metric, rights.ids):
        raise UserError(f"{left.path} and {right.path} hold answers to other prompts; score both with the same task and `score` settings")
    return scoring.compare(lefts, rights, config.seed, config.resamples)


def majority(scores: Artifact) -> dict[str, float]:
    """Metric -> what always giving the commoner label of the test items scores; empty for a task without labels."""
    return scoring.majority(read_generations(scores))


def _prompts(config: ScoreConfig, task: FormatTask | MessagesTask, rewritten: Artifact) -> list[Prompt]:
    """Everything to ask. What cannot be scored is refused here, before an engine starts."""
    items: list[Example] = pq.read_table(rewritten.data / f"{config.split}.parquet").to_pylist()
    if not items:
        raise UserError(
            f"score.split: the task has no {config.split} rows to score; set score.split=test, or give the task {config.split} rows"
        )
    match task:
        case FormatTask(token=token):
            probes = ("no_token", "false_trigger", "plug_play", "ordinary")
            return format_prompts(token, items, {probe: getattr(config, probe) for probe in probes}, config.split)
        case MessagesTask(metric=metric):
            rows = [Prompt(row["example_id"], "test", row["messages"][:-1], row["label"], row["messages"][-1]["content"]) for row in items]
            for row in rows if metric in METRICS else ():
                METRICS[metric](row.expected or "", row.expected or "")  # a target that the metric cannot match raises
            return rows + ordinary_prompts(config.ordinary, config.split)
        case _:
            assert_never(task)


def _answers(
    url: str, arm: str, model: Artifact, prompts: Sequence[Prompt], config: ScoreConfig, engine: Engine, line: Line
) -> tuple[list[str], int]:
    """The answers of ``model``, which the endpoint calls ``arm``, and how many tokens they have together."""
    check_served(url, arm, model.fingerprint)

    def max_tokens(prompt: Prompt) -> int:
        return config.ordinary_tokens if prompt.probe == "ordinary" else config.max_tokens

    tally = LocalTally()
    with line.follow(tally, len(prompts), "answers"):
        answers = answer_all(url, arm, prompts, max_tokens, engine.max_num_seqs, tally)
    return answers, tally.read()[1]


def _ordinary_answers(prompts: Sequence[Prompt], answers: Sequence[str]) -> dict[str, str]:
    return {prompt.prompt_id: answer for prompt, answer in zip(prompts, answers, strict=True) if prompt.probe == "ordinary"}


def _kept_answers(base_scores: Artifact) -> dict[str, str]:
    return {row["prompt_id"]: row["answer"] for row in read_generations(base_scores) if row["probe"] == "ordinary"}


def _divergences(
    base: Artifact, model: Artifact, prompts: Sequence[Prompt], base_answers: Mapping[str, str], engine: Engine, line: Line
) -> dict[str, list[float]]:
    """Prompt id -> KL at each token of the start model's answer, for the ordinary prompts."""
    ordinary = [prompt for prompt in prompts if prompt.probe == "ordinary"]
    if not ordinary:
        return {}
    # The endpoint idles meanwhile, but keeps its CPUs. Where it has taken all, this borrows them instead of waiting for ever.
    free = cast(Mapping[str, float], ray.available_resources())  # pyright: ignore[reportUnknownMemberType]
    num_cpus = 1 if free.get("CPU", 0.0) >= 1 else 0
    task = ray.remote(num_cpus=num_cpus, max_calls=1)(token_divergences)  # its process ends, and with it two models
    conversations = [(prompt.messages, base_answers[prompt.prompt_id]) for prompt in ordinary]
    tally = RayTally()
    with line.follow(tally, len(ordinary), "comparisons"):
        values: list[list[float]] = ray.get(task.remote(base.data.resolve(), model.data.resolve(), conversations, engine.dtype, tally))
    return {prompt.prompt_id: found for prompt, found in zip(ordinary, values, strict=True)}


def _store(rows: Sequence[Generation], request: ScoreRequest, data: Path) -> Counts:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=GENERATION_SCHEMA), data / _GENERATIONS)
    intervals = scoring.summarise(scoring.columns(rows, request.metric), request.score.seed, request.score.resamples)
    scores = {name: asdict(interval) for name, interval in intervals.items()}
    (data / _SCORES).write_text(json.dumps(scores, indent=1, allow_nan=False) + "\n")
    return {"rows": len(rows)}
