"""Lineage of a run's artifacts, from the manifests: which artifact was built from which."""

from collections.abc import Iterator
from pathlib import Path

from delia_ray.core.artifacts import MANIFEST, Manifest
from delia_ray.core.errors import UserError
from delia_ray.core.storage.paths import to_uri


def read_manifests(run: Path) -> dict[str, Manifest]:
    """Read the manifests of all finished artifacts, by path below ``run``, in order of completion."""
    manifests = {
        str(file.parent.relative_to(run)): Manifest.model_validate_json(file.read_text())
        for file in run.rglob(MANIFEST)
        if not any(part.startswith(".") for part in file.relative_to(run).parts)
    }
    return dict(sorted(manifests.items(), key=lambda item: item[1].created_at))


def find_descendants(run: Path, fingerprint: str) -> dict[str, Manifest]:
    """Return all finished artifacts built directly or indirectly from the given one: path to manifest, in order of completion."""
    manifests, known, descendants = read_manifests(run), {fingerprint}, set[str]()
    while new := {path for path, manifest in manifests.items() if path not in descendants and known & set(manifest.inputs.values())}:
        descendants |= new
        known |= {manifests[path].fingerprint for path in new}
    return {path: manifest for path, manifest in manifests.items() if path in descendants}


def find_orphans(run: Path) -> list[str]:
    """Return paths of finished artifacts with an input of this run that no longer exists."""
    manifests = read_manifests(run)
    known = {manifest.fingerprint for manifest in manifests.values()}
    return [
        path
        for path, manifest in manifests.items()
        if any(fingerprint not in known for role, fingerprint in manifest.inputs.items() if role not in manifest.adopted)
    ]


def describe_artifacts(run: Path) -> Iterator[str]:
    """Yield a line for each artifact: path, stage, fingerprint, counts and inputs.

    Raises:
        UserError: the run has no finished artifact.
    """
    manifests = read_manifests(run)
    if not manifests:
        raise UserError(f"run.name: {to_uri(run)} holds no finished artifact; `delia run` makes them")
    names = {manifest.fingerprint: path for path, manifest in manifests.items()}
    for path, manifest in manifests.items():
        inputs = ", ".join(
            f"{role} {fingerprint} ({names.get(fingerprint, 'from outside')})" for role, fingerprint in manifest.inputs.items()
        )
        counts = ", ".join(f"{name} {count:g}" for name, count in manifest.counts.items())
        yield f"{path}  {manifest.stage}  {manifest.fingerprint}  {counts}" + (f"  <- {inputs}" if inputs else "")
