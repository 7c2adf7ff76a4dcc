"""The stage ``gradients``, which measures gradients of the models, and the stage ``probe``, which evaluates the theory's predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from delia_ray.core.artifacts import MANIFEST, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.progress import ProgressLine
from delia_ray.core.records import MIXED_KIND
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.kl_divergence import compute_answer_kl
from delia_ray.evaluation.metrics.task_metrics import FORMAT
from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.evaluation.stored import SCORES_KIND, compare_scores, read_scores
from delia_ray.placement import Engine, TrainWorkers
from delia_ray.probing.config import ProbeConfig
from delia_ray.probing.gradients.job import ProbeJob, compute_gradient_products, count_passes
from delia_ray.probing.gradients.rows import adopt_foreign, choose_rows
from delia_ray.probing.predictions.predictions import P5_METRICS, evaluate_predictions
from delia_ray.probing.predictions.products import GradientProducts
from delia_ray.probing.predictions.schema import ArmDifference, ArmFacts, Measurements, ProbeReport
from delia_ray.probing.predictions.summary import make_difference, pair_arms, summarize_products
from delia_ray.ray_runtime.capacity import demand_of_one
from delia_ray.ray_runtime.cluster import Connect
from delia_ray.ray_runtime.tally import RayTally
from delia_ray.ray_runtime.tasks import get_result
from delia_ray.training.stage import CHECKPOINT_KIND

STAGE = "gradients/3"
GRADIENTS_KIND = "gradients/2"
PAGE_STAGE = "probe/5"
PROBE_KIND = "probe/3"
_MEASUREMENTS = "gradients.json"

"""Report of the probe -> HTML page."""


@dataclass(frozen=True)
class ProbedRun:
    """The finished artifacts of a run that the probe reads."""

    folder: Path
    """Folder of the run."""
    ratios: Mapping[str, float]
    """Arm -> rho, of the trained arms, the smallest first."""
    base: Artifact
    rewritten: Artifact
    pool: Artifact
    models: Mapping[str, Artifact]
    """Arm -> exported model, ``base`` too."""
    new_tokens: tuple[str, ...]

    def open_artifact(self, arm: str, role: str, kind: str) -> Artifact:
        """Open a finished artifact of one arm."""
        return Artifact.open(self.folder / "arms" / arm / role, kind)


class GradientsRequest(Config):
    """Settings that identify one set of gradient measurements."""

    probe: ProbeConfig
    ratios: dict[str, float]
    new_tokens: tuple[str, ...]


class ProbeRequest(Config):
    """Settings that identify one probe page."""

    run: str
    metric: tuple[str, ...]
    score: ScoreConfig


def measure_gradients(
    config: ProbeConfig,
    run: ProbedRun,
    workers: TrainWorkers,
    engine: Engine,
    connect: Connect,
    line: ProgressLine,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Measure all that P1 to P4 need of the base model and of every trained arm, and write ``gradients.json``.

    Raises:
        UserError: no weight has a name that ``config.parameters`` matches.
    """
    checkpoints = {arm: run.open_artifact(arm, "checkpoint", CHECKPOINT_KIND) for arm in run.ratios}
    mixtures = {arm: run.open_artifact(arm, "mixed", MIXED_KIND) for arm in run.ratios}

    def write(workspace: Workspace) -> Counts:
        connect(demand_of_one(workers.num_cpus, workers.num_gpus, "placement.finetune"))
        rows = choose_rows(config, run.pool, run.rewritten, list(mixtures.values()), run.base.data)
        trained = {arm: checkpoint.data / "trained" for arm, checkpoint in checkpoints.items()}
        job = ProbeJob(config, run.base.data.resolve(), trained, run.new_tokens, rows)
        products, divergences = _run_workers(job, run, workers, engine, line)
        arms = {arm: _read_arm_facts(run.ratios[arm], checkpoint) for arm, checkpoint in checkpoints.items()}
        measurements = summarize_products(config, arms, products, divergences)
        (workspace.data / _MEASUREMENTS).write_text(measurements.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return {"rows": len(rows.queries), "held_out": len(rows.held_out), "products": measurements.facts.products}

    inputs: dict[str, Input] = {"base": run.base, "rewritten": run.rewritten, "pool": run.pool}
    for role, artifacts in (("checkpoint", checkpoints), ("mixed", mixtures), ("model", run.models)):
        inputs |= {f"{role}.{arm}": artifacts[arm] for arm in run.ratios}
    inputs |= {} if config.foreign is None else {"foreign": adopt_foreign(config.foreign)}
    request = GradientsRequest(
        probe=config.model_copy(update={"foreign": None, "tokens": None}), ratios=dict(run.ratios), new_tokens=run.new_tokens
    )
    return build_once(out, stage=STAGE, kind=GRADIENTS_KIND, request=request, inputs=inputs, provenance=provenance, write=write)


def report_predictions(
    config: ScoreConfig,
    metric: tuple[str, ...],
    run: ProbedRun,
    gradients: Artifact,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Write ``probe.json``: each prediction with its numbers and whether it held. P5 covers the arms that are scored.

    Args:
        config: settings of the scores.
        metric: ``task.metric``, the main metric first.
        run: the probed run.
        gradients: written by ``measure_gradients``.
        out: folder of the artifact.
        provenance: recorded in the manifest.
    """
    scores = {arm: artifact for arm in run.ratios if (artifact := _open_scores(run, arm))}

    def write(workspace: Workspace) -> Counts:
        measurements = Measurements.model_validate_json((gradients.fetch(_MEASUREMENTS)).read_text(encoding="utf-8"))
        differences = _compare_arms(measurements, scores, config, metric)
        report = ProbeReport(
            run=run.folder.name,
            measured=measurements,
            scores=_read_metrics(scores, metric),
            scored=differences,
            predictions=evaluate_predictions(measurements, differences, metric[0]),
        )
        (workspace.data / "probe.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return {"scored": len(scores)}

    inputs: dict[str, Input] = {"gradients": gradients, **{f"scores.{arm}": artifact for arm, artifact in scores.items()}}
    request = ProbeRequest(run=run.folder.name, metric=metric, score=config)
    return build_once(out, stage=PAGE_STAGE, kind=PROBE_KIND, request=request, inputs=inputs, provenance=provenance, write=write)


def _run_workers(
    job: ProbeJob, run: ProbedRun, workers: TrainWorkers, engine: Engine, line: ProgressLine
) -> tuple[GradientProducts, dict[str, list[list[float]]]]:
    """Compute gradient products and KL divergences in Ray workers, each of which ends after one task and frees its models."""
    tally, options = RayTally(), dict[str, Any]({"num_cpus": workers.num_cpus, "num_gpus": workers.num_gpus, "max_calls": 1})
    base, held_out = run.base.data.resolve(), job.rows.held_out
    compare = ray.remote(**options)(compute_answer_kl)
    total = count_passes(job.config, job.rows, len(run.ratios)) + len(held_out) * len(run.ratios)
    with line.track(tally, total, "passes"):
        products: GradientProducts = get_result(ray.remote(**options)(compute_gradient_products).remote(job, tally))
        divergences: dict[str, list[list[float]]] = {
            arm: get_result(compare.remote(base, run.models[arm].data.resolve(), held_out, engine.dtype, tally))
            for arm in run.ratios
            if held_out
        }
    return products, divergences


def _read_arm_facts(ratio: float, checkpoint: Artifact) -> ArmFacts:
    request = checkpoint.manifest.request
    return ArmFacts(ratio=ratio, learning_rate=request["finetune"]["learning_rate"], steps=request["steps"])


def _open_scores(run: ProbedRun, arm: str) -> Artifact | None:
    """Open the arm's scores; None where they are missing or belong to another model."""
    if not (run.folder / "arms" / arm / "scores" / MANIFEST).exists():
        return None
    scores = run.open_artifact(arm, "scores", SCORES_KIND)
    return scores if scores.manifest.inputs["model"] == run.models[arm].fingerprint else None


def _select_metrics(metric: tuple[str, ...]) -> tuple[str, ...]:
    return P5_METRICS if metric == (FORMAT,) else metric


def _read_metrics(scores: Mapping[str, Artifact], metric: tuple[str, ...]) -> dict[str, dict[str, Interval]]:
    """Read the metrics of P5: metric -> arm -> value."""
    by_arm = {arm: read_scores(artifact) for arm, artifact in scores.items()}
    by_metric = {
        name: {arm: values[name] for arm, values in by_arm.items() if values[name].value is not None} for name in _select_metrics(metric)
    }
    return {name: values for name, values in by_metric.items() if values}


def _compare_arms(
    measurements: Measurements, scores: Mapping[str, Artifact], config: ScoreConfig, metric: tuple[str, ...]
) -> dict[str, list[ArmDifference]]:
    """Compare the scored arms with neighboring ratios: metric -> differences."""
    pairs = pair_arms({arm: facts for arm, facts in measurements.arms.items() if arm in scores})
    compared = {(fewer, more): compare_scores(scores[more], scores[fewer], config) for fewer, more in pairs}
    differences = {
        name: [make_difference(*pair, result[name]) for pair, result in compared.items() if result[name].difference is not None]
        for name in _select_metrics(metric)
    }
    return {name: each for name, each in differences.items() if each}
