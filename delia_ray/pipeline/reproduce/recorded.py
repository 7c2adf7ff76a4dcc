"""The settings that a run keeps of itself, and what of them another building of the same artifact takes."""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from delia_ray.core.artifacts import MANIFEST
from delia_ray.core.config import build_config
from delia_ray.core.errors import UserError
from delia_ray.core.fingerprint import iter_differences
from delia_ray.core.layout import BASE, RunLayout
from delia_ray.core.mirrored_run import pull_run
from delia_ray.core.storage.paths import to_uri
from delia_ray.core.storage.transfer import fetch
from delia_ray.pipeline.experiment.config import ExperimentSettings
from delia_ray.settings import Settings

_DEPTH = 3
"""Folders of the deepest artifact below its run: ``arms/delia/scores``."""


@contextmanager
def keep_settings(settings: Settings) -> Generator[None]:
    """Write ``settings`` with all defaults into the run's folder, and leave them there once an artifact was finished under them.

    Otherwise older settings are restored: a verb that only reads, or is refused, leaves the record of what is there.
    """
    file = RunLayout(settings.run.path).config(experiment=isinstance(settings, ExperimentSettings))
    before, finished = file.read_bytes() if file.exists() else None, _finished(settings.run.path)
    now = _text(settings).encode()
    if before != now:
        _replace(file, now)
    refused = False
    try:
        yield
    except UserError:
        refused = True
        raise
    finally:
        if _finished(settings.run.path) == finished:
            if before is not None and before != now:
                _replace(file, before)
            elif before is None and refused:
                file.unlink(missing_ok=True)


@dataclass(frozen=True)
class Recorded:
    """A finished artifact and the run it belongs to."""

    run: Path
    """The run's folder, absolute."""
    role: str
    """Path of the artifact below it."""

    @classmethod
    def find(cls, artifact: Path) -> "Recorded":
        """The run of ``artifact``.

        Raises:
            UserError: nothing is finished there, or its run kept no settings.
        """
        place = artifact.resolve()
        if not fetch(place / MANIFEST).exists():
            raise UserError(
                f"reproduce: {to_uri(artifact)} has no {MANIFEST}; name the folder of a finished artifact, as `delia show` lists them"
            )
        for run in place.parents[:_DEPTH]:
            if any(fetch(RunLayout(run).config(experiment=experiment)).exists() for experiment in (False, True)):
                pull_run(run)
                return cls(run, str(place.relative_to(run)))
        raise UserError(
            f"reproduce: no config.yaml lies above {to_uri(artifact)}: the run is older than this record. Give the command that made it "
            "once more, with the same config: what is finished is reused, and its settings are then kept"
        )

    def settings(self, files: Sequence[Path], overrides: Sequence[str]) -> Settings:
        """What the run was made with, for a folder of its own (``<run>.reproduced`` unless ``run.root`` says otherwise).

        Cached completions are never shared with the run unless ``placement.cache`` says so: they would be read, not generated again.

        Args:
            files: more configs, laid over what was kept.
            overrides: settings as KEY=VALUE, laid over all.

        Raises:
            UserError: the record cannot be read, something besides the placement is changed, or the run itself would be written to.
        """
        source = self._source
        schema = ExperimentSettings if source == RunLayout(self.run).config(experiment=True) else Settings
        own = ["placement.cache=null", f"run.root={self.run.parent / f'{self.run.name}.reproduced'}"]
        try:
            before = build_config(schema, [source], [])
        except UserError as error:
            raise UserError(
                f"reproduce: {source} does not fit this version: {error}; use the commit in the artifact's {MANIFEST}"
            ) from None
        found = build_config(schema, [source, *files], [*own, *overrides])
        if changed := list(iter_differences(_asked(before), _asked(found))):
            raise UserError(f"reproduce: only placement and run.root may differ from what {source} says, found {'; '.join(changed)}")
        if found.run.path.resolve() == self.run:
            raise UserError(f"run.root: {found.run.path} is the run itself, whose artifacts would be reused; name another folder")
        return found

    @property
    def _source(self) -> Path:
        """The settings that name the artifact's arm; those of the experiment where the run's do not."""
        run, experiment = (RunLayout(self.run).config(experiment=experiment) for experiment in (False, True))
        if not experiment.exists() or not run.exists():
            return run if run.exists() else experiment
        parts = Path(self.role).parts
        arms = {BASE, *(yaml.safe_load(run.read_text(encoding="utf-8")).get("arms") or {})}
        return experiment if parts[0] == "experiment" or (parts[0] == "arms" and parts[1] not in arms) else run


def _asked(settings: Settings) -> dict[str, object]:
    """What shapes the artifacts: all but where they are made and where they go."""
    return {**settings.model_dump(mode="json", exclude={"placement", "run"}), "run": {"name": settings.run.name}}


def _text(settings: Settings) -> str:
    return yaml.safe_dump(settings.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True, width=140)


def _replace(file: Path, content: bytes) -> None:
    partial = file.with_name(f".{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, file)
    except OSError as error:
        raise UserError(f"run.root: cannot write {file}: {error.strerror}; choose a folder you may write to (run.root=...)") from None


def _finished(run: Path) -> set[tuple[Path, int]]:
    """Every manifest with the time it was written."""
    found = (file for depth in range(1, _DEPTH + 1) for file in run.glob("*/" * depth + MANIFEST))
    return {(file, file.stat().st_mtime_ns) for file in found}
