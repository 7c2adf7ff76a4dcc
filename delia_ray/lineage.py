"""The chain of manifests of a run, from a number in a table back to the rows it came from."""

from collections.abc import Iterator
from pathlib import Path

from delia_ray.artifacts import MANIFEST, Manifest
from delia_ray.errors import UserError

_ORIGINS = {"mixed": ("diverse",), "checkpoint": ("mixed",), "model": ("checkpoint",), "scores": ("model",)}
"""Stage -> roles of what it is made from that some stage of the run made."""
_PAGES = ("report", "experiment", "probe", "retention", "tokens")
"""Stages that are made from what the run made alone."""


def manifests(run: Path) -> dict[str, Manifest]:
    """Path below ``run`` -> manifest of every finished artifact, in the order they were finished."""
    found = {
        str(file.parent.relative_to(run)): Manifest.model_validate_json(file.read_text())
        for file in run.rglob(MANIFEST)
        if not any(part.startswith(".") for part in file.relative_to(run).parts)
    }
    return dict(sorted(found.items(), key=lambda item: item[1].created_at))


def made_from(run: Path, fingerprint: str) -> dict[str, Manifest]:
    """Path -> manifest of every finished artifact that was made from that one, at whatever remove, in the order they were finished."""
    found, known, made = manifests(run), {fingerprint}, set[str]()
    while new := {path for path, manifest in found.items() if path not in made and known & set(manifest.inputs.values())}:
        made |= new
        known |= {found[path].fingerprint for path in new}
    return {path: manifest for path, manifest in found.items() if path in made}


def broken(run: Path) -> list[str]:
    """Paths of finished artifacts whose own origin is gone, so that nobody can tell what they were made from."""
    found = manifests(run)
    known = {manifest.fingerprint for manifest in found.values()}
    return [
        path
        for path, manifest in found.items()
        if any(
            fingerprint not in known
            for role, fingerprint in manifest.inputs.items()
            if (stage := manifest.stage.partition("/")[0]) in _PAGES or role in _ORIGINS.get(stage, ())
        )
    ]


def show(run: Path) -> Iterator[str]:
    """One line an artifact: path, stage, fingerprint, counts and what it was made from.

    Raises:
        UserError: nothing of the run is finished.
    """
    found = manifests(run)
    if not found:
        raise UserError(f"run.name: {run} holds no finished artifact; `delia run` makes them")
    names = {manifest.fingerprint: path for path, manifest in found.items()}
    for path, manifest in found.items():
        made_from = ", ".join(
            f"{role} {fingerprint} ({names.get(fingerprint, 'from outside')})" for role, fingerprint in manifest.inputs.items()
        )
        counts = ", ".join(f"{name} {count:g}" for name, count in manifest.counts.items())
        yield f"{path}  {manifest.stage}  {manifest.fingerprint}  {counts}" + (f"  <- {made_from}" if made_from else "")
