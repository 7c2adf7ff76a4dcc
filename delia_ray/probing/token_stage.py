"""The stage ``tokens``: what the new token has come to mean to each model, in numbers and on a page (METHOD 5)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from delia_ray.artifacts import Artifact, Counts, Workspace, build_once
from delia_ray.config import Config
from delia_ray.placement import Replicas
from delia_ray.probing.token_config import TokenProbe
from delia_ray.probing.token_probe import SAID_SCHEMA, Found, ModelProbe, Questions, Said
from delia_ray.probing.token_prompts import mentions, substitutions
from delia_ray.probing.token_schema import TokenReport
from delia_ray.progress import Tally
from delia_ray.records import EvalExample
from delia_ray.runtime import RayTally, all_cores
from delia_ray.synthesis.site import Site
from delia_ray.tasks.config import FormatTask, MeanInit, TaskConfig

STAGE = "tokens/3"
TOKENS_KIND = "tokens/1"

Draw = Callable[[TokenReport, Sequence[Said]], str]
"""The page, from what was found and what the models said."""


class TokensRequest(Config):
    """What is looked at."""

    token: str
    probe: TokenProbe
    """With the task's defaults filled in."""


def probe_tokens(
    config: TokenProbe,
    task: TaskConfig,
    models: Mapping[str, Artifact],
    rewritten: Artifact,
    draw: Draw,
    site: Site,
    replicas: Replicas,
    out: Path,
) -> Artifact:
    """``tokens.json``, ``answers.parquet`` and ``index.html`` over every model.

    Args:
        config: what to look at, filled in for ``task``.
        task: its new token is the one looked at.
        models: arm -> finished model, the start model first, whose row for the token is untrained.
        rewritten: the task's rows; the test split's prompts are asked.
        draw: makes the page.
        site: the cluster, the models' precision, the line that shows progress.
        replicas: the CPUs and GPUs of one replica are what one model gets.

    Raises:
        UserError: the tokenizer cannot read a concept apart, or a model cannot be looked into.
    """
    assert task.token is not None, "a filled config has a token"
    request = TokensRequest(token=task.token, probe=config)

    def write(workspace: Workspace) -> Counts:
        questions = _questions(config, task, rewritten)
        site.connect()
        found = _look(questions, models, site, replicas)
        report = _report(questions, found)
        said = [each for one in found.values() for each in one.said]
        (workspace.data / "tokens.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
        pq.write_table(pa.Table.from_pylist(list(said), schema=SAID_SCHEMA), workspace.data / "answers.parquet")
        (workspace.data / "index.html").write_text(draw(report, said), encoding="utf-8")
        return {"models": len(found), "answers": len(said)}

    inputs = {**models, "rewritten": rewritten}
    return build_once(out, stage=STAGE, kind=TOKENS_KIND, request=request, inputs=inputs, provenance=site.provenance, write=write)


def _questions(config: TokenProbe, task: TaskConfig, rewritten: Artifact) -> Questions:
    assert task.token is not None, "a filled config has a token"
    items: list[EvalExample] = pq.read_table(rewritten.data / "test.parquet").to_pylist()
    return Questions(
        config=config,
        token=task.token,
        substitutions=substitutions(items, task.token, config.meaning, config.prompts) if config.meaning else [],
        mentions=mentions(task, items, config.prompts),
        with_mean=not isinstance(task.token_init, MeanInit),
        in_format=isinstance(task, FormatTask),
    )


def _look(questions: Questions, models: Mapping[str, Artifact], site: Site, replicas: Replicas) -> dict[str, Found]:
    """What was found in each model, each in a process of its own; on one machine one after the other."""
    task = ray.remote(num_cpus=replicas.num_cpus, num_gpus=replicas.num_gpus, max_calls=1, **all_cores())(_look_into)
    start = next(iter(models.values())).data.resolve()
    tally = RayTally()
    with site.line.follow(tally, questions.steps(len(models)), "carriers and prompts"):
        asked = {arm: task.remote(arm, model.data.resolve(), start, questions, site.engine.dtype, tally) for arm, model in models.items()}
        return dict(zip(asked, ray.get(list(asked.values())), strict=True))


def _look_into(arm: str, folder: Path, start: Path, questions: Questions, dtype: str, tally: Tally) -> Found:
    return ModelProbe(arm, folder, start, questions, dtype, tally).look()


def _report(questions: Questions, found: Mapping[str, Found]) -> TokenReport:
    config = questions.config
    return TokenReport(
        token=questions.token,
        carriers=config.carriers,
        random_words=config.random_words,
        pieces=config.pieces,
        meaning=config.meaning,
        leak_words=list(config.leak_words or ()),
        concepts=next(iter(found.values())).concepts,
        models={arm: each.model for arm, each in found.items()},
    )
