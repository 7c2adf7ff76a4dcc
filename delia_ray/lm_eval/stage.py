"""The stages ``lm_eval``, for one model, and ``lm_eval_changes``, for all: lm-eval's tasks before and after tuning."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from delia_ray.core.artifacts import Adopted, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.fingerprint import hash_folder
from delia_ray.core.layout import BASE
from delia_ray.core.progress import ProgressLine
from delia_ray.core.storage.transfer import fetch
from delia_ray.evaluation.client import check_served_model
from delia_ray.evaluation.metrics.definitions import define_row_metric
from delia_ray.evaluation.statistics.clusters import assign_singletons
from delia_ray.evaluation.statistics.estimation import estimate_difference
from delia_ray.evaluation.statistics.intervals import PairedDifference
from delia_ray.evaluation.statistics.multiplicity import apply_holm_correction
from delia_ray.lm_eval.bridge import check_tasks, evaluate_endpoint
from delia_ray.lm_eval.config import LmEval
from delia_ray.lm_eval.schema import LmEvalChange, LmEvalChanges, LmEvalResults, TaskMetric
from delia_ray.models.folders import is_no_weight
from delia_ray.placement import LmEvalProcess

STAGE = "lm_eval/2"
LM_EVAL_KIND = "lm_eval/2"
CHANGES_STAGE = "lm_eval_changes/2"
CHANGES_KIND = "lm_eval_changes/2"


class LmEvalRequest(Config):
    """Everything that the results of one model depend on, besides its inputs."""

    lm_eval: LmEval
    """The config without the folder ``include``, whose content is an input."""


class LmEvalChangesRequest(Config):
    """The settings of the comparison."""

    resamples: int
    seed: int


def check_lm_eval(config: LmEval, process: LmEvalProcess) -> None:
    """Check that lm-eval can run the tasks, before a model is built for it.

    Raises:
        UserError: no task is named, a task is unknown, or lm-eval is not installed.
    """
    if not config.tasks:
        raise UserError("lm_eval.tasks: names no task; give some, for example lm_eval.tasks=[arc_easy,hellaswag] lm_eval.limit=200")
    check_tasks(config, process)


def run_lm_eval(
    config: LmEval,
    arm: str,
    model: Artifact,
    base_url: Callable[[], str],
    process: LmEvalProcess,
    line: ProgressLine,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Run lm-eval on ``model``, which the endpoint serves as ``arm``, and write ``results.json``.

    Args:
        base_url: opens the endpoint on the first call and returns its URL, ``/v1`` included.

    Raises:
        UserError: the endpoint serves another build, or lm-eval fails, for example at an unknown task.
    """

    def write(workspace: Workspace) -> Counts:
        url = base_url()
        check_served_model(url, arm, model.fingerprint)
        line.set_status(", ".join(config.tasks))
        with TemporaryDirectory() as folder:
            results = evaluate_endpoint(config, arm, fetch(model.data, is_no_weight).resolve(), url, process, Path(folder))
        (workspace.data / "results.json").write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return {"metrics": len(results.metrics), "items": max((len(each.items) for each in results.metrics if each.items), default=0)}

    task_files: dict[str, Input] = {} if config.include is None else {"include": adopt_task_folder(config.include)}
    request = LmEvalRequest(lm_eval=config.model_copy(update={"include": None}))
    return build_once(
        out, stage=STAGE, kind=LM_EVAL_KIND, request=request, inputs={"model": model, **task_files}, provenance=provenance, write=write
    )


def adopt_task_folder(folder: Path) -> Adopted:
    """Adopt the task files in ``folder`` as an input, identified by the hash of their content."""
    return Adopted(folder, hash_folder(folder))


def read_results(artifact: Artifact) -> LmEvalResults:
    """Read ``results.json``, which ``run_lm_eval`` wrote."""
    return LmEvalResults.model_validate_json(artifact.fetch("results.json").read_text(encoding="utf-8"))


def compare_lm_eval(config: LmEval, results: Mapping[str, Artifact], out: Path, provenance: Provenance) -> Artifact:
    """Compare every metric before and after tuning, with paired intervals, and write ``changes.json``.

    Args:
        results: arm -> artifact of ``run_lm_eval``, the model before tuning under ``base``.
    """

    def write(workspace: Workspace) -> Counts:
        changes = compare_results({arm: read_results(each) for arm, each in results.items()}, config.seed, config.resamples)
        (workspace.data / "changes.json").write_text(changes.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return {"metrics": len(changes.metrics)}

    request = LmEvalChangesRequest(resamples=config.resamples, seed=config.seed)
    return build_once(
        out, stage=CHANGES_STAGE, kind=CHANGES_KIND, request=request, inputs=dict(results), provenance=provenance, write=write
    )


def compare_results(results: Mapping[str, LmEvalResults], seed: int, resamples: int) -> LmEvalChanges:
    """Compare every model with the one before tuning, paired by item, with Holm's correction over the arms.

    Args:
        results: arm -> lm-eval's results; ``base`` is the model before tuning.
        seed: seed of the bootstrap.
        resamples: number of bootstrap resamples.
    """
    metrics = {arm: {metric.title: metric for metric in each.metrics} for arm, each in results.items()}
    before = metrics[BASE]
    differences = apply_holm_correction(
        {
            arm: {title: _estimate_change(metric, before[title], seed, resamples) for title, metric in after.items() if title in before}
            for arm, after in metrics.items()
            if arm != BASE
        }
    )
    return LmEvalChanges(
        lm_eval=sorted({each.lm_eval for each in results.values()}),
        metrics={
            title: {
                arm: _build_change(by_title[title], differences.get(arm, {}).get(title))
                for arm, by_title in metrics.items()
                if title in by_title
            }
            for title in before
        },
        truncated_prompts={arm: each.truncated_prompts for arm, each in results.items()},
    )


def _estimate_change(after: TaskMetric, before: TaskMetric, seed: int, resamples: int) -> PairedDifference:
    """Estimate ``after`` minus ``before``, without an interval if the two have no scores of the same items."""
    without_interval = PairedDifference(after.value - before.value, None, None, None)
    if after.items is None or before.items is None or after.items.keys() != before.items.keys():
        return without_interval
    left_N, right_N = np.array([after.items[item] for item in before.items]), np.array(list(before.items.values()))
    if not np.allclose([left_N.mean(), right_N.mean()], [after.value, before.value], atol=1e-6):
        return without_interval  # the metric is not the mean of the item scores
    is_proportion = 0 <= min(left_N.min(), right_N.min()) and max(left_N.max(), right_N.max()) <= 1
    metric, groupings = define_row_metric("score", 1.0 if is_proportion else None), (assign_singletons(len(left_N)),)
    return estimate_difference(metric, {"score": left_N}, {"score": right_N}, groupings, seed, resamples)


def _build_change(metric: TaskMetric, difference: PairedDifference | None) -> LmEvalChange:
    if difference is None:
        return LmEvalChange(value=metric.value, difference=None, low=None, high=None, p=None, p_holm=None)
    return LmEvalChange(
        value=metric.value,
        difference=difference.difference,
        low=difference.low,
        high=difference.high,
        p=difference.p,
        p_holm=difference.p_holm,
    )
