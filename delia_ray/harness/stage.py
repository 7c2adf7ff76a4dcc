"""The stages ``lm_eval``, of one model, and ``retention``, of all: what tuning left of other tasks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from delia_ray.artifacts import Adopted, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.evaluation.bootstrap import Difference
from delia_ray.evaluation.client import check_served
from delia_ray.evaluation.clusters import single
from delia_ray.evaluation.estimation import compare
from delia_ray.evaluation.measures import row_measure
from delia_ray.evaluation.multiplicity import with_holm
from delia_ray.fingerprint import hash_folder
from delia_ray.harness.bridge import ask_endpoint, check_tasks
from delia_ray.harness.config import LmEval
from delia_ray.harness.schema import Change, Found, Retention, TaskMetric
from delia_ray.placement import Harness
from delia_ray.progress import Line
from delia_ray.serving.catalogue import BASE

STAGE = "lm_eval/1"
LM_EVAL_KIND = "lm_eval/1"
RETENTION_STAGE = "retention/3"
RETENTION_KIND = "retention/1"


class LmEvalRequest(Config):
    """What is asked."""

    lm_eval: LmEval
    """Without the folder ``include``, whose content is an input."""


class RetentionRequest(Config):
    """How models are compared."""

    resamples: int
    seed: int


def check_harness(config: LmEval, how: Harness) -> None:
    """Refuse what lm-eval could not be asked, before a model is built for it.

    Raises:
        UserError: no task is named, one is not known, or lm-eval is not installed.
    """
    if not config.tasks:
        raise UserError("lm_eval.tasks: names no task; give some, for example lm_eval.tasks=[arc_easy,hellaswag] lm_eval.limit=200")
    check_tasks(config, how)


def ask_harness(
    config: LmEval, arm: str, model: Artifact, base_url: Callable[[], str], how: Harness, line: Line, out: Path, provenance: Provenance
) -> Artifact:
    """``results.json``: what lm-eval finds for ``model``, which the endpoint calls ``arm``.

    Args:
        base_url: opens the endpoint when first needed; its address, ``/v1`` included.

    Raises:
        UserError: the endpoint serves another build, or lm-eval gives up, as for a task that it does not know.
    """

    def write(workspace: Workspace) -> Counts:
        url = base_url()
        check_served(url, arm, model.fingerprint)
        line.say(", ".join(config.tasks))
        with TemporaryDirectory() as folder:
            found = ask_endpoint(config, arm, model.data.resolve(), url, how, Path(folder))
        (workspace.data / "results.json").write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return {"metrics": len(found.metrics), "items": max((len(each.items) for each in found.metrics if each.items), default=0)}

    given: dict[str, Input] = {} if config.include is None else {"include": adopt_folder(config.include)}
    request = LmEvalRequest(lm_eval=config.model_copy(update={"include": None}))
    return build_once(
        out, stage=STAGE, kind=LM_EVAL_KIND, request=request, inputs={"model": model, **given}, provenance=provenance, write=write
    )


def adopt_folder(folder: Path) -> Adopted:
    """The task files in ``folder``, by their content."""
    return Adopted(folder, hash_folder(folder))


def read_found(artifact: Artifact) -> Found:
    """What ``ask_harness`` wrote."""
    return Found.model_validate_json((artifact.data / "results.json").read_text(encoding="utf-8"))


def compare_harness(config: LmEval, asked: Mapping[str, Artifact], out: Path, provenance: Provenance) -> Artifact:
    """``retention.json``: every metric before and after tuning, with paired intervals.

    Args:
        asked: arm -> what lm-eval found, the model before tuning under ``base``.
    """

    def write(workspace: Workspace) -> Counts:
        found = retention({arm: read_found(each) for arm, each in asked.items()}, config.seed, config.resamples)
        (workspace.data / "retention.json").write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return {"metrics": len(found.metrics)}

    request = RetentionRequest(resamples=config.resamples, seed=config.seed)
    return build_once(
        out, stage=RETENTION_STAGE, kind=RETENTION_KIND, request=request, inputs=dict(asked), provenance=provenance, write=write
    )


def retention(found: Mapping[str, Found], seed: int, resamples: int) -> Retention:
    """Every model against the one before tuning, paired by item, with Holm's correction over the arms.

    Args:
        found: arm -> what lm-eval says; ``base`` is the model before tuning.
    """
    metrics = {arm: {each.title: each for each in one.metrics} for arm, one in found.items()}
    before = metrics[BASE]
    paired = with_holm(
        {
            arm: {title: _difference(each, before[title], seed, resamples) for title, each in own.items() if title in before}
            for arm, own in metrics.items()
            if arm != BASE
        }
    )
    return Retention(
        lm_eval=sorted({one.lm_eval for one in found.values()}),
        metrics={
            title: {arm: _change(own[title], paired.get(arm, {}).get(title)) for arm, own in metrics.items() if title in own}
            for title in before
        },
        cut={arm: one.cut for arm, one in found.items()},
    )


def _difference(after: TaskMetric, before: TaskMetric, seed: int, resamples: int) -> Difference:
    """Without the scores of the same single items the difference has no interval."""
    plain = Difference(after.value - before.value, None, None, None)
    if after.items is None or before.items is None or after.items.keys() != before.items.keys():
        return plain
    left_N, right_N = np.array([after.items[item] for item in before.items]), np.array(list(before.items.values()))
    if not np.allclose([left_N.mean(), right_N.mean()], [after.value, before.value], atol=1e-6):
        return plain  # the metric is no mean over its items
    is_share = 0 <= min(left_N.min(), right_N.min()) and max(left_N.max(), right_N.max()) <= 1
    items = (single(len(left_N)),)
    return compare(row_measure("score", 1.0 if is_share else None), {"score": left_N}, {"score": right_N}, items, seed, resamples)


def _change(metric: TaskMetric, found: Difference | None) -> Change:
    if found is None:
        return Change(value=metric.value, difference=None, low=None, high=None, p=None, p_holm=None)
    return Change(value=metric.value, difference=found.difference, low=found.low, high=found.high, p=found.p, p_holm=found.p_holm)
