"""The stage ``scores``: ask a finished model over the live endpoint, keep every answer, and measure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import assert_never, cast

import pyarrow.parquet as pq
import ray

from delia_ray.artifacts import Adopted, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.evaluation.bootstrap import Columns
from delia_ray.evaluation.client import LocalTally, answer_all, check_served
from delia_ray.evaluation.config import Margins, ScoreConfig
from delia_ray.evaluation.divergence import token_divergences
from delia_ray.evaluation.kept import Asked, KeptAnswers, drop_kept
from delia_ray.evaluation.scoring import Generation, generations
from delia_ray.evaluation.stored import SCORES_KIND, read_generations, write_scores
from delia_ray.evaluation.task_metrics import bleu_tokens, metric_files, metric_names, metric_pattern, score_rows
from delia_ray.fingerprint import hash_file
from delia_ray.judging.config import Judges
from delia_ray.judging.stage import judge_files, judge_rows
from delia_ray.models.reasoning import without_reasoning
from delia_ray.placement import Engine, JudgeWorkers, Placement
from delia_ray.progress import Line
from delia_ray.records import EvalExample
from delia_ray.runtime import Connect, RayTally
from delia_ray.tasks.config import FormatTask, MessagesTask, TaskConfig, TranslationTask
from delia_ray.tasks.formatted import Prompt, format_prompts, ordinary_prompts, spelled_out, test_prompt
from delia_ray.tasks.translation import source_text

STAGE = "scores/4"


class ScoreRequest(Config):
    """What makes one model's scores different from another's."""

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
    """What the task's prompts say in place of the token. null: the token, and then everything else is asked, too."""


@dataclass(frozen=True)
class Examinee:
    """Who is asked."""

    name: str
    """What the endpoint calls it."""
    model: Artifact
    base: Artifact
    """The start model."""
    base_scores: Artifact | None
    """The start model's, whose answers Retention follows; null when ``model`` is the start model and follows its own."""
    meaning: str | None = None
    """What to say in the task's own prompts in place of its token; nothing else is asked then."""


def score(
    config: ScoreConfig,
    task: TaskConfig,
    judges: Judges,
    who: Examinee,
    rewritten: Artifact,
    base_url: Callable[[], str],
    connect: Connect,
    line: Line,
    placement: Placement,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Ask a model over the live endpoint and store the answers and the scores at ``out`` (see ``stored``).

    Args:
        judges: the learned metrics that ``task.metric`` names.
        base_url: opens the endpoint when first needed; its address, ``/v1`` included.

    Raises:
        UserError: the endpoint serves another build or refuses a prompt; the split has no rows; ``task.metric`` cannot be taken.
    """
    base, given = who.base, who.base_scores
    assert (given is None) == (who.model.fingerprint == base.fingerprint), "Retention follows the start model's own answers"

    def write(workspace: Workspace) -> Counts:
        prompts = _prompts(config, task, rewritten) if who.meaning is None else _spelled_out(config, task, rewritten, who.meaning)
        connect()
        rows, tokens = _generations(config, who, prompts, base_url, placement.engine, line, out)
        scored = _task_scores(task, judges, rows, placement.judges)
        return {"tokens": tokens, **write_scores(rows, scored, config, workspace.data, bleu)}

    bleu = bleu_tokens(task, _targets(config, rewritten))
    request = _request(config, task, bleu, who.meaning)
    files, before = metric_inputs(task, judges), {"base_scores": given} if given else {}
    inputs: dict[str, Input] = {"model": who.model, "base": base, "rewritten": rewritten, **files, **before}
    scores = build_once(out, stage=STAGE, kind=SCORES_KIND, request=request, inputs=inputs, provenance=provenance, write=write)
    drop_kept(out)
    return scores


def _request(config: ScoreConfig, task: TaskConfig, bleu: str | None, meaning: str | None) -> ScoreRequest:
    # Margins say how arms are compared, not what one of them scores.
    asked, names, pattern = config.model_copy(update={"margins": Margins()}), metric_names(task), metric_pattern(task)
    return ScoreRequest(score=asked, token=task.token, metric=names, pattern=pattern, bleu_tokens=bleu, meaning=meaning)


def metric_inputs(task: TaskConfig, judges: Judges) -> dict[str, Input]:
    """The files that the task's metrics are made from, by the hashes of their bytes.

    Raises:
        UserError: weights of a learned metric are not there.
    """
    weights = judge_files(metric_names(task), judges)
    return {
        **{role: Adopted(file, hash_file(file)) for role, file in metric_files(task).items()},
        **{role: Adopted(file, _hash_once(file, file.stat().st_mtime_ns)) for role, file in weights.items()},
    }


@cache
def _hash_once(file: Path, changed_ns: int) -> str:
    """Every arm is scored by the same weights, which may be gigabytes; ``changed_ns`` tells a file that was written anew apart."""
    return hash_file(file)


def _task_scores(task: TaskConfig, judges: Judges, rows: Sequence[Generation], how: JudgeWorkers) -> Columns:
    """The task's own metrics of the test rows, in the order of ``task.metric``."""
    test = [row for row in rows if row["probe"] == "test"]
    outputs, targets = [without_reasoning(row["answer"]) for row in test], [row["expected"] or "" for row in test]
    asked = [row["messages"][-1]["content"] for row in test]
    sources = [source_text(text) for text in asked] if isinstance(task, TranslationTask) else asked
    judged = judge_rows(metric_names(task), judges, list(zip(sources, outputs, targets, strict=True)), how)
    scored = {**score_rows(task, outputs, targets), **judged}
    return {name: scored[name] for name in metric_names(task) if name in scored}


def _generations(
    config: ScoreConfig, who: Examinee, prompts: Sequence[Prompt], base_url: Callable[[], str], engine: Engine, line: Line, out: Path
) -> Asked:
    """Every answer beside what it is compared with; an attempt that failed after the last answer asks nothing again."""
    given = None if who.base_scores is None else _kept_answers(who.base_scores)

    def ask() -> Asked:
        answers, tokens = _answers(base_url(), who, prompts, config, engine, line)
        base_answers = _ordinary_answers(prompts, answers) if given is None else given
        kl = _divergences(who.base, who.model, prompts, base_answers, engine, line)
        return generations(prompts, answers, base_answers, kl), tokens

    asker = {"stage": STAGE, "model": who.model.fingerprint, "base": who.base.fingerprint, "dtype": engine.dtype}
    return KeptAnswers(out, asker, prompts, given, config).or_ask(ask)


def _targets(config: ScoreConfig, rewritten: Artifact) -> list[str]:
    rows: list[EvalExample] = pq.read_table(rewritten.data / f"{config.split}.parquet", columns=["messages"]).to_pylist()
    return [row["messages"][-1]["content"] for row in rows]


def _prompts(config: ScoreConfig, task: TaskConfig, rewritten: Artifact) -> list[Prompt]:
    """Everything to ask."""
    items: list[EvalExample] = pq.read_table(rewritten.data / f"{config.split}.parquet").to_pylist()
    if not items:
        raise UserError(
            f"score.split: the task has no {config.split} rows to score; set score.split=test, or give the task {config.split} rows"
        )
    match task:
        case FormatTask(token=token):
            probes = ("no_token", "false_trigger", "plug_play", "ordinary")
            return format_prompts(token, items, {probe: getattr(config, probe) for probe in probes}, config.split)
        case MessagesTask() | TranslationTask():
            return [test_prompt(row) for row in items] + ordinary_prompts(config.ordinary, config.split)
        case _:
            assert_never(task)


def _spelled_out(config: ScoreConfig, task: TaskConfig, rewritten: Artifact, meaning: str) -> list[Prompt]:
    assert task.token is not None, "only a token has a meaning to spell out"
    return spelled_out(_prompts(config, task, rewritten), task.token, meaning)


def _answers(url: str, who: Examinee, prompts: Sequence[Prompt], config: ScoreConfig, engine: Engine, line: Line) -> tuple[list[str], int]:
    """The answers, and how many tokens they have together."""
    check_served(url, who.name, who.model.fingerprint)

    def max_tokens(prompt: Prompt) -> int:
        return config.ordinary_tokens if prompt.probe == "ordinary" else config.max_tokens

    tally = LocalTally()
    with line.follow(tally, len(prompts), "answers"):
        answers = answer_all(url, who.name, prompts, max_tokens, engine.max_num_seqs, tally)
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
