"""The stages ``gradients``, which needs the models, and ``probe``, which says what was found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from delia_ray.artifacts import MANIFEST, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.evaluation.bootstrap import Interval
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.divergence import token_divergences
from delia_ray.evaluation.stored import SCORES_KIND, compare_scores, read_scores
from delia_ray.evaluation.task_metrics import FORMAT
from delia_ray.placement import Engine, TrainWorkers
from delia_ray.probing.config import ProbeConfig
from delia_ray.probing.findings import ArmFacts, Change, Findings, Measured
from delia_ray.probing.raw import Raw
from delia_ray.probing.rows import Rows, adopt_foreign, choose_rows
from delia_ray.probing.summary import changed, ladder, summarise
from delia_ray.probing.verdict import SCORES_OF_P5, predictions
from delia_ray.probing.work import Work, passes, take_raw
from delia_ray.progress import Line
from delia_ray.records import MIXED_KIND
from delia_ray.runtime import Connect, RayTally
from delia_ray.training.stage import CHECKPOINT_KIND

STAGE = "gradients/3"
GRADIENTS_KIND = "gradients/2"
PAGE_STAGE = "probe/4"
PROBE_KIND = "probe/2"
_MEASURED = "gradients.json"

Draw = Callable[[Findings], str]
"""The page."""


@dataclass(frozen=True)
class Subjects:
    """What a run has to probe, all of it finished."""

    run: Path
    ratios: Mapping[str, float]
    """Arm -> rho, of the trained arms, the smallest first."""
    start: Artifact
    rewritten: Artifact
    pool: Artifact
    models: Mapping[str, Artifact]
    """Arm -> exported model, ``base`` too."""
    new_tokens: tuple[str, ...]

    def of(self, arm: str, role: str, kind: str) -> Artifact:
        """A finished artifact of one arm."""
        return Artifact.open(self.run / "arms" / arm / role, kind)


class GradientsRequest(Config):
    """What makes one set of measurements different from another."""

    probe: ProbeConfig
    ratios: dict[str, float]
    new_tokens: tuple[str, ...]


class ProbeRequest(Config):
    """What the page shows."""

    run: str
    metric: tuple[str, ...]
    score: ScoreConfig


def measure(
    config: ProbeConfig,
    subjects: Subjects,
    workers: TrainWorkers,
    engine: Engine,
    connect: Connect,
    line: Line,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """``gradients.json``: everything that P1 to P4 need of the start model and of every trained arm.

    Raises:
        UserError: no weight is called as ``config.parameters`` says.
    """
    checkpoints = {arm: subjects.of(arm, "checkpoint", CHECKPOINT_KIND) for arm in subjects.ratios}
    mixtures = {arm: subjects.of(arm, "mixed", MIXED_KIND) for arm in subjects.ratios}

    def write(workspace: Workspace) -> Counts:
        connect()
        rows = choose_rows(config, subjects.pool, subjects.rewritten, list(mixtures.values()), subjects.start.data)
        trained = {arm: checkpoint.data / "trained" for arm, checkpoint in checkpoints.items()}
        work = Work(config, subjects.start.data.resolve(), trained, subjects.new_tokens, rows)
        raw, divergences = _taken(work, subjects, workers, engine, line)
        arms = {arm: _facts(subjects.ratios[arm], checkpoint) for arm, checkpoint in checkpoints.items()}
        found = summarise(config, arms, raw, divergences)
        (workspace.data / _MEASURED).write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return {"rows": len(rows.queries), "held_out": len(rows.held_out), "products": found.facts.products}

    inputs: dict[str, Input] = {"start": subjects.start, "rewritten": subjects.rewritten, "pool": subjects.pool}
    for role, artifacts in (("checkpoint", checkpoints), ("mixed", mixtures), ("model", subjects.models)):
        inputs |= {f"{role}.{arm}": artifacts[arm] for arm in subjects.ratios}
    inputs |= {} if config.foreign is None else {"foreign": adopt_foreign(config.foreign)}
    request = GradientsRequest(
        probe=config.model_copy(update={"foreign": None, "tokens": None}), ratios=dict(subjects.ratios), new_tokens=subjects.new_tokens
    )
    return build_once(out, stage=STAGE, kind=GRADIENTS_KIND, request=request, inputs=inputs, provenance=provenance, write=write)


def conclude(
    config: ScoreConfig, metric: tuple[str, ...], subjects: Subjects, gradients: Artifact, draw: Draw, out: Path, provenance: Provenance
) -> Artifact:
    """``probe.json`` and ``index.html``: each prediction with its numbers and whether it held. P5 is told of the arms that are scored.

    Args:
        metric: ``task.metric``, the main one first.
    """
    scores = {arm: found for arm in subjects.ratios if (found := _finished_scores(subjects, arm))}

    def write(workspace: Workspace) -> Counts:
        measured = Measured.model_validate_json((gradients.data / _MEASURED).read_text(encoding="utf-8"))
        scored = _scored(measured, scores, config, metric)
        found = Findings(
            run=subjects.run.name,
            measured=measured,
            scores=_values(scores, metric),
            scored=scored,
            predictions=predictions(measured, scored, metric[0]),
        )
        (workspace.data / "probe.json").write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (workspace.data / "index.html").write_text(draw(found), encoding="utf-8")
        return {"scored": len(scores)}

    inputs: dict[str, Input] = {"gradients": gradients, **{f"scores.{arm}": found for arm, found in scores.items()}}
    request = ProbeRequest(run=subjects.run.name, metric=metric, score=config)
    return build_once(out, stage=PAGE_STAGE, kind=PROBE_KIND, request=request, inputs=inputs, provenance=provenance, write=write)


def _taken(work: Work, subjects: Subjects, workers: TrainWorkers, engine: Engine, line: Line) -> tuple[Raw, dict[str, list[list[float]]]]:
    """In processes of their own, which end with the models they hold."""
    rows: Rows = work.rows
    tally, where = RayTally(), dict[str, Any]({"num_cpus": workers.num_cpus, "num_gpus": workers.num_gpus, "max_calls": 1})
    base, held_out = subjects.start.data.resolve(), rows.held_out
    compare = ray.remote(**where)(token_divergences)
    total = passes(work.config, rows, len(subjects.ratios)) + len(held_out) * len(subjects.ratios)
    with line.follow(tally, total, "passes"):
        raw = _raw(ray.remote(**where)(take_raw).remote(work, tally))
        divergences: dict[str, list[list[float]]] = {
            arm: ray.get(compare.remote(base, subjects.models[arm].data.resolve(), held_out, engine.dtype, tally))
            for arm in subjects.ratios
            if held_out
        }
    return raw, divergences


def _raw(reference: Any) -> Raw:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise


def _facts(ratio: float, checkpoint: Artifact) -> ArmFacts:
    asked = checkpoint.manifest.request
    return ArmFacts(ratio=ratio, learning_rate=asked["finetune"]["learning_rate"], steps=asked["steps"])


def _finished_scores(subjects: Subjects, arm: str) -> Artifact | None:
    """The arm's scores, where this very model has been scored."""
    if not (subjects.run / "arms" / arm / "scores" / MANIFEST).exists():
        return None
    scores = subjects.of(arm, "scores", SCORES_KIND)
    return scores if scores.manifest.inputs["model"] == subjects.models[arm].fingerprint else None


def _metrics(metric: tuple[str, ...]) -> tuple[str, ...]:
    return SCORES_OF_P5 if metric == (FORMAT,) else metric


def _values(scores: Mapping[str, Artifact], metric: tuple[str, ...]) -> dict[str, dict[str, Interval]]:
    read = {arm: read_scores(found) for arm, found in scores.items()}
    found = {name: {arm: values[name] for arm, values in read.items() if values[name].value is not None} for name in _metrics(metric)}
    return {name: values for name, values in found.items() if values}


def _scored(measured: Measured, scores: Mapping[str, Artifact], config: ScoreConfig, metric: tuple[str, ...]) -> dict[str, list[Change]]:
    """Over the arms that are scored."""
    steps = ladder({arm: facts for arm, facts in measured.arms.items() if arm in scores})
    compared = {(fewer, more): compare_scores(scores[more], scores[fewer], config) for fewer, more in steps}
    changes = {
        name: [changed(*pair, found[name]) for pair, found in compared.items() if found[name].difference is not None]
        for name in _metrics(metric)
    }
    return {name: each for name, each in changes.items() if each}
