"""Build what a verb asks for: its steps, with all they need, and their pages."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from delia_ray.core.artifacts import Artifact, Provenance
from delia_ray.core.layout import RunLayout
from delia_ray.core.progress import Progress
from delia_ray.pipeline.pages import render_pages
from delia_ray.pipeline.run import Run
from delia_ray.pipeline.steps import Step, steps_of
from delia_ray.settings import Settings


@dataclass(frozen=True)
class Built:
    """A step that is finished."""

    step: Step
    artifacts: Mapping[str, Artifact]
    """By arm; under the empty name where the step has one artifact. Empty where the settings lead to none."""
    page: Path | None


def build_verb(verb: str, settings: Settings, progress: Progress, provenance: Provenance) -> list[Built]:
    """Build the steps of ``verb`` in order, and render the pages.

    Raises:
        UserError: something is not usable; what could be known before was found before anything was built.
    """
    steps = steps_of(verb, settings)
    with Run(settings, progress, provenance) as run:
        if not all(step.is_experiment for step in steps):
            run.check(serves=any(step.serves for step in steps), trains=any(step.trains for step in steps))
        artifacts = {step.role: step.build(run, step.names(run)) for step in steps}
    pages = render_pages(RunLayout(settings.run.path))
    return [Built(step, artifacts[step.role], pages.get(step.role)) for step in steps]
