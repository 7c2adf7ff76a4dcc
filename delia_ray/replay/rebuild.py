"""``delia replay``: build an artifact once more, beside its run, and say what came out the same."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from delia_ray.artifacts import Adopted, Artifact, Input, Manifest, Provenance, StaleArtifactError
from delia_ray.errors import UserError
from delia_ray.evaluation.stage import metric_inputs
from delia_ray.experiment.cells import every_arm
from delia_ray.experiment.config import ExperimentSettings
from delia_ray.experiment.stage import experiment
from delia_ray.harness.stage import adopt_folder
from delia_ray.lineage import manifests
from delia_ray.models import adopt_model
from delia_ray.pipeline import INSTRUCTED, Pipeline
from delia_ray.probing.rows import adopt_foreign
from delia_ray.progress import Progress
from delia_ray.replay.compare import chain, compare
from delia_ray.replay.recorded import Recorded
from delia_ray.run_context import PRECISION
from delia_ray.serving.catalogue import BASE
from delia_ray.settings import POOL, Settings
from delia_ray.synthesis.asking import find_source
from delia_ray.tasks.stage import adopt_files

_SERVED = ("scores", "dev_scores", "report", "experiment", "probe", "lm_eval", "retention")


def replay(recorded: Recorded, settings: Settings, progress: Progress, out: TextIO, provenance: Provenance) -> int:
    """Build ``recorded`` again with ``settings`` and write one line an artifact it was made from.

    Returns:
        0: every request is the same, and so are the rows that follow from theirs. 1: not so; the last line names the first that differs.

    Raises:
        UserError: a file that the artifact was made from is gone or has changed; the artifact is none that the settings lead to.
    """
    found = manifests(recorded.run)
    for path in chain(found, recorded.role):
        check_unchanged(settings, path, found[path])
    _keep_precision(recorded.run, settings.run.path)
    try:
        build(recorded.role, settings, _scored_for_probe(found), progress, provenance)
    except StaleArtifactError as error:
        raise UserError(
            f"replay: the replay of another request is in {settings.run.path}; remove it, or name another folder (run.root=...). {error}"
        ) from None
    twins = compare(recorded.run, settings.run.path.resolve(), recorded.role)
    for twin in twins:
        out.write(f"{twin}\n")
    made, now = found[recorded.role].git_commit, provenance.git_commit
    if made != now:
        out.write(f"made at commit {made or 'unknown'}, replayed at {now or 'unknown'}\n")
    broken = next((twin for twin in twins if twin.fails), None)
    out.write(f"replayed: {settings.run.path}\n" if broken is None else f"not reproduced; the first that differs: {broken.path}\n")
    return 0 if broken is None else 1


def _keep_precision(recorded: Path, out: Path) -> None:
    """Compute as the run did, whatever this machine would choose."""
    if (recorded / PRECISION).exists() and not (out / PRECISION).exists():
        out.mkdir(parents=True, exist_ok=True)
        shutil.copy(recorded / PRECISION, out / PRECISION)


def check_unchanged(settings: Settings, path: str, manifest: Manifest) -> None:
    """Refuse to rebuild the artifact at ``path`` from files that are not those it was made from.

    Raises:
        UserError: naming the file.
    """
    for role, given in _outside(settings, path, manifest).items():
        before = manifest.inputs.get(role)
        if before is not None and before != given.fingerprint:
            file = given.path if isinstance(given, Adopted) else role
            raise UserError(
                f"replay: {file} has changed since {path} was made ({role} was {before[:12]}, is {given.fingerprint[:12]}); put the "
                "file of that time back, or run anew under another run.name"
            )


def _outside(settings: Settings, path: str, manifest: Manifest) -> Mapping[str, Input]:
    """The inputs of an artifact that no stage made, as they are now."""
    stage, parts = manifest.stage.partition("/")[0], Path(path).parts
    match stage:
        case "task":
            return adopt_files(settings.task)
        case "start":
            return {"model": adopt_model(settings.model, template_arguments=settings.chat_template_kwargs)}
        case "queries":
            config = settings.pools[parts[1]] if parts[0] == "pools" else settings.synthesize
            return {
                "model": adopt_model(settings.model, template_arguments=settings.chat_template_kwargs),
                **find_source(config, config.queries).inputs,
            }
        case "scores":
            return metric_inputs(settings.task, settings.judges)
        case "lm_eval" if settings.lm_eval.include is not None:
            return {"include": adopt_folder(settings.lm_eval.include)}
        case "gradients" if settings.probe.foreign is not None:
            return {"foreign": adopt_foreign(settings.probe.foreign)}
        case _:
            return {}


def build(role: str, settings: Settings, scored: Sequence[str], progress: Progress, provenance: Provenance) -> None:
    """Build the artifact at ``role`` and what it needs.

    Args:
        scored: arms whose scores the run's probe was told of.

    Raises:
        UserError: the settings lead to no artifact of that name.
    """
    if isinstance(settings, ExperimentSettings):
        if role == "experiment":
            experiment(settings, progress, provenance)
            return
        with Pipeline(settings, progress, provenance) as pipeline:
            arms = every_arm(settings, int(pipeline.task.manifest.counts["train"]))
        settings = settings.model_copy(update={"arms": arms})
    with Pipeline(settings, progress, provenance) as pipeline:
        pipeline.check(serves=Path(role).name in _SERVED)
        match Path(role).parts:
            case ("arms", arm, "scores") if arm == INSTRUCTED and isinstance(settings, ExperimentSettings) and settings.meaning is not None:
                pipeline.instructed(settings.meaning)
            case ("arms", arm, part) if arm in pipeline.arms or (arm == BASE and part in ("scores", "dev_scores", "lm_eval")):
                _of_arm(pipeline, arm, part)
            case ("distilled", wordings):
                for arm in pipeline.arms.values():
                    if arm.targets == "own" and arm.wordings == wordings:
                        pipeline.task_rows(arm)
            case ("pools", name, _) if name in settings.pools:
                pipeline.pool(name)
            case (part,):
                _of_run(pipeline, part, scored)
            case _:
                raise _unknown(role)


def _of_arm(pipeline: Pipeline, arm: str, part: str) -> Artifact:
    match part:
        case "mixed":
            return pipeline.mixed(arm)
        case "checkpoint":
            return pipeline.checkpoint(arm)
        case "model":
            return pipeline.exported(arm)
        case "scores":
            return pipeline.scores(arm)[arm]
        case "dev_scores":
            return pipeline.dev_scores(arm)[arm]
        case "lm_eval":
            return pipeline.asked(arm)[arm]
        case _:
            raise _unknown(f"arms/{arm}/{part}")


def _of_run(pipeline: Pipeline, part: str, scored: Sequence[str]) -> Artifact | None:
    match part:
        case "task" | "start" | "original" | "rewritten" | "diversity":
            return getattr(pipeline, part)
        case "queries" | "diverse":
            return pipeline.diverse
        case "clean":
            return pipeline.pool(POOL)
        case "report":
            return pipeline.report()
        case "gradients" | "probe":
            if scored:  # a probe reads the scores that are finished, and makes none
                pipeline.scores(*scored)
            return pipeline.probe()
        case "retention":
            return pipeline.retention()
        case "tokens":
            return pipeline.tokens_probe()
        case _:
            raise _unknown(part)


def _scored_for_probe(found: Mapping[str, Manifest]) -> list[str]:
    inputs = found["probe"].inputs if "probe" in found else {}
    return [role.removeprefix("scores.") for role in inputs if role.startswith("scores.")]


def _unknown(role: str) -> UserError:
    return UserError(f"replay: the settings that the run kept lead to no artifact {role}; name one that they do, such as task")
