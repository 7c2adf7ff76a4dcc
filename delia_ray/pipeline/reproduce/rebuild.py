"""``delia reproduce``: build an artifact once more, beside its run, and report what came out the same."""

import shutil
from collections.abc import Callable, Mapping, Sequence

from delia_ray.core.artifacts import Adopted, Input, Manifest, Provenance, StaleArtifactError
from delia_ray.core.errors import UserError
from delia_ray.core.layout import RunLayout
from delia_ray.core.lineage import read_manifests
from delia_ray.core.progress import Progress
from delia_ray.core.storage.transfer import publish
from delia_ray.pipeline.experiment.cells import collect_possible_arms
from delia_ray.pipeline.experiment.config import ExperimentSettings
from delia_ray.pipeline.reproduce.compare import compare, trace_inputs
from delia_ray.pipeline.reproduce.recorded import Recorded
from delia_ray.pipeline.run import Run
from delia_ray.pipeline.steps import Step, find_step, load
from delia_ray.settings import Settings


def reproduce(recorded: Recorded, settings: Settings, progress: Progress, report: Callable[[str], None], provenance: Provenance) -> int:
    """Build ``recorded`` again with ``settings`` and report a line for each artifact it was made from.

    Returns:
        0: every request is the same, and so are the rows that follow from theirs. 1: not so; the last line names the first that differs.

    Raises:
        UserError: a file that the artifact was made from is gone or has changed; the settings lead to no such artifact.
    """
    manifests, layout = read_manifests(recorded.run), RunLayout(settings.run.path)
    for path in trace_inputs(manifests, recorded.role):
        check_unchanged(settings, path, manifests[path])
    _copy_precision(RunLayout(recorded.run), layout)
    try:
        build(recorded.role, settings, _list_probed_scores(manifests), progress, provenance)
    except StaleArtifactError as error:
        raise UserError(
            f"reproduce: another request was reproduced in {layout.root}; remove it, or name another folder (run.root=...). {error}"
        ) from None
    comparisons = compare(recorded.run, layout.root.resolve(), recorded.role)
    for comparison in comparisons:
        report(str(comparison))
    before, now = manifests[recorded.role].git_commit, provenance.git_commit
    if before != now:
        report(f"made at commit {before or 'unknown'}, reproduced at {now or 'unknown'}")
    failed = next((comparison for comparison in comparisons if comparison.fails), None)
    report(f"reproduced: {layout.root}" if failed is None else f"not reproduced; the first that differs: {failed.path}")
    return 0 if failed is None else 1


def check_unchanged(settings: Settings, path: str, manifest: Manifest) -> None:
    """Refuse to rebuild the artifact at ``path`` from files that are not those it was made from.

    Raises:
        UserError: the file that has changed.
    """
    for role, current in _find_outside_inputs(settings, path).items():
        before = manifest.inputs.get(role)
        if before is not None and before != current.fingerprint:
            file = current.path if isinstance(current, Adopted) else role
            raise UserError(
                f"reproduce: {file} has changed since {path} was made ({role} was {before[:12]}, is {current.fingerprint[:12]}); put the "
                "file of that time back, or run anew under another run.name"
            )


def build(role: str, settings: Settings, scored: Sequence[str], progress: Progress, provenance: Provenance) -> None:
    """Build the artifact at ``role`` and what it needs.

    Args:
        scored: arms whose scores the run's probe read.

    Raises:
        UserError: the settings lead to no artifact of that name.
    """
    step, name = _find(role)
    if isinstance(settings, ExperimentSettings) and not step.is_experiment:
        with Run(settings, progress, provenance) as run:
            arms = collect_possible_arms(settings, int(run.task.manifest.counts["train"]))
        meaning, settings = settings.meaning, settings.model_copy(update={"arms": arms})
    else:
        meaning = None
    with Run(settings, progress, provenance) as run:
        if not step.is_experiment:
            run.check(serves=step.serves, trains=step.trains)
        if step.role == "probe" and scored:  # a probe reads the scores that are finished, and makes none
            run.scores(*scored)
        if step.is_instructed(name) and meaning is not None:
            run.instructed_scores(meaning)
        elif name not in step.names(run) or not step.build(run, (name,)):
            raise _refuse(role)


def _copy_precision(recorded: RunLayout, layout: RunLayout) -> None:
    """Compute as the run did, whatever this machine would choose."""
    if recorded.precision.exists() and not layout.precision.exists():
        layout.root.mkdir(parents=True, exist_ok=True)
        shutil.copy(recorded.precision, layout.precision)
        publish(layout.precision)


def _find_outside_inputs(settings: Settings, path: str) -> Mapping[str, Input]:
    """The inputs of the artifact at ``path`` that no step made, as they are now."""
    step, name = _find(path)
    return load(step.outside_inputs)(settings, name) if step.outside_inputs else {}


def _find(role: str) -> tuple[Step, str]:
    found = find_step(role)
    if found is None:
        raise _refuse(role)
    return found


def _list_probed_scores(manifests: Mapping[str, Manifest]) -> list[str]:
    inputs = manifests["probe"].inputs if "probe" in manifests else {}
    return [role.removeprefix("scores.") for role in inputs if role.startswith("scores.")]


def _refuse(role: str) -> UserError:
    return UserError(f"reproduce: the settings that the run kept lead to no artifact {role}; name one that they do, such as task")
