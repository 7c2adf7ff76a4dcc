"""The stage ``tokens``: probe what the new token means to each model, in numbers and on a page (docs/method.md, What a token means)."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from delia_ray.core.artifacts import Artifact, Counts, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.progress import Tally
from delia_ray.core.records import EvalExample
from delia_ray.placement import Replicas
from delia_ray.probing.tokens.config import TokenProbeConfig
from delia_ray.probing.tokens.probe import ANSWER_SCHEMA, ModelProbe, TokenProbeJob, TokenProbeResult
from delia_ray.probing.tokens.prompts import make_mentions, make_substitutions
from delia_ray.probing.tokens.schema import TokenReport
from delia_ray.ray_runtime.capacity import demand_of_one
from delia_ray.ray_runtime.resources import get_all_cores_options
from delia_ray.ray_runtime.tally import RayTally
from delia_ray.ray_runtime.tasks import get_result
from delia_ray.synthesis.context import GenerationContext
from delia_ray.tasks.config import FormatTask, MeanInit, TaskConfig

STAGE = "tokens/4"
TOKENS_KIND = "tokens/2"

"""Report of the token probe and the models' answers -> HTML page."""


class TokensRequest(Config):
    """Settings that identify one token probe."""

    token: str
    probe: TokenProbeConfig
    """With the task's defaults filled in."""


def probe_tokens(
    config: TokenProbeConfig,
    task: TaskConfig,
    models: Mapping[str, Artifact],
    rewritten: Artifact,
    context: GenerationContext,
    replicas: Replicas,
    out: Path,
) -> Artifact:
    """Probe every model, and write ``tokens.json`` and ``answers.parquet``.

    Args:
        config: settings, with the defaults of ``task`` filled in.
        task: its new token is probed.
        models: arm -> finished model, the base model first, whose row for the token is untrained.
        rewritten: the task's rows; the prompts of the test split are used.
        context: the cluster, the models' precision, the progress line.
        replicas: CPUs and GPUs of one replica, which each model gets.
        out: folder of the artifact.

    Raises:
        UserError: the tokenizer cannot separate a concept from the text before it, or a model's hidden states cannot be read.
    """
    assert task.token is not None, "a filled config has a token"
    request = TokensRequest(token=task.token, probe=config)

    def write(workspace: Workspace) -> Counts:
        job = _make_job(config, task, rewritten)
        context.connect(demand_of_one(replicas.num_cpus, replicas.num_gpus, "placement.serve"))
        results = _probe_models(job, models, context, replicas)
        report = _make_report(job, results)
        answers = [answer for result in results.values() for answer in result.answers]
        (workspace.data / "tokens.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
        pq.write_table(pa.Table.from_pylist(list(answers), schema=ANSWER_SCHEMA), workspace.data / "answers.parquet")
        return {"models": len(results), "answers": len(answers)}

    inputs = {**models, "rewritten": rewritten}
    return build_once(out, stage=STAGE, kind=TOKENS_KIND, request=request, inputs=inputs, provenance=context.provenance, write=write)


def _make_job(config: TokenProbeConfig, task: TaskConfig, rewritten: Artifact) -> TokenProbeJob:
    assert task.token is not None, "a filled config has a token"
    items: list[EvalExample] = pq.read_table(rewritten.fetch("test.parquet")).to_pylist()
    return TokenProbeJob(
        config=config,
        token=task.token,
        substitutions=make_substitutions(items, task.token, config.meaning, config.prompts) if config.meaning else [],
        mentions=make_mentions(task, items, config.prompts),
        with_mean=not isinstance(task.token_init, MeanInit),
        in_format=isinstance(task, FormatTask),
    )


def _probe_models(
    job: TokenProbeJob, models: Mapping[str, Artifact], context: GenerationContext, replicas: Replicas
) -> dict[str, TokenProbeResult]:
    """Probe each model in a Ray task with a process of its own; on one machine one after the other."""
    task = ray.remote(num_cpus=replicas.num_cpus, num_gpus=replicas.num_gpus, max_calls=1, **get_all_cores_options())(_probe_model)
    base = next(iter(models.values())).data.resolve()
    tally = RayTally()
    with context.line.track(tally, job.count_steps(len(models)), "carriers and prompts"):
        references = {arm: task.remote(arm, model.data.resolve(), base, job, context.engine.dtype, tally) for arm, model in models.items()}
        return dict(zip(references, get_result(list(references.values())), strict=True))


def _probe_model(arm: str, folder: Path, base: Path, job: TokenProbeJob, dtype: str, tally: Tally) -> TokenProbeResult:
    return ModelProbe(arm, folder, base, job, dtype, tally).run()


def _make_report(job: TokenProbeJob, results: Mapping[str, TokenProbeResult]) -> TokenReport:
    config = job.config
    return TokenReport(
        token=job.token,
        carriers=config.carriers,
        random_words=config.random_words,
        pieces=config.pieces,
        meaning=config.meaning,
        leak_words=list(config.leak_words or ()),
        concepts=next(iter(results.values())).concepts,
        models={arm: result.model for arm, result in results.items()},
    )
