"""Artifacts: directories that stages write and read, each with a ``manifest.json`` that is written last.

A directory without a manifest is an unfinished attempt and is never read. A directory with a manifest is finished and
immutable, and the manifest records the request that produced it. On a disk an attempt's scratch directory is renamed. In an object store,
which renames nothing, its objects have their final names at once.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from delia_ray.core.building import check_may_build, may_build
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.fingerprint import fingerprint, iter_differences
from delia_ray.core.storage.objects import remove
from delia_ray.core.storage.paths import is_remote, to_uri
from delia_ray.core.storage.permissions import share_files
from delia_ray.core.storage.transfer import fetch, publish
from delia_ray.core.storage.workspace import DATA, Workspace, prepare_workspace, remove_inflight

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"

MODEL_KIND = "hf-model/1"
CHAT_FORMAT = "chat_format.json"
"""File in the data of the base model: a description of its chat template's features."""

Counts = Mapping[str, int | float]


class Manifest(BaseModel):
    """Metadata of an artifact: its request, the fingerprints of its inputs, and its counts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    stage: str
    """``name/version``; the version is raised by hand when the stage's semantics change."""
    request: dict[str, Any]
    """The resolved config that determines the data. It excludes placement."""
    inputs: dict[str, str]
    """Fingerprint of each input, by role."""
    adopted: tuple[str, ...] = ()
    """Roles of the inputs that no stage of the run made, such as files and models."""
    fingerprint: str
    """Hash of ``stage``, ``request`` and ``inputs``: the artifact's identity."""
    kind: str
    """Type of the content: ``parquet:exchange/1``, ``hf-model/1``, ``scores/1``."""
    counts: dict[str, int | float]
    """Numbers of rows, tokens or steps, which a reader can check against the data."""
    seconds: float
    """Wall-clock time of the attempt that finished, in seconds."""
    created_at: datetime
    git_commit: str | None
    command: list[str]


class Input(Protocol):
    """An input of a stage, identified by a fingerprint: an artifact, or an adopted file."""

    @property
    def fingerprint(self) -> str: ...


class StaleArtifactError(UserError):
    """A finished artifact of a different request is at the output path."""

    def __init__(self, path: Path, message: str):
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class Artifact:
    """A finished directory: ``manifest.json`` and the files it describes, under ``data/``."""

    path: Path
    manifest: Manifest

    @property
    def data(self) -> Path:
        """Its files, which this node may lack if they are in an object store."""
        return self.path / DATA

    def fetch(self, *names: str) -> Path:
        """Return the path of a file or folder below ``data``, which is fetched from the object store if it is in one."""
        return fetch(self.data.joinpath(*names))

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    @classmethod
    def open(cls, path: Path, kind: str) -> "Artifact":
        """Open the finished artifact at ``path``.

        Raises:
            UserError: there is none, its stage did not finish, or its kind is not ``kind``.
        """
        file = fetch(path / MANIFEST)
        name = to_uri(path)
        if not file.exists():
            raise UserError(f"{name} has no {MANIFEST}: the stage that writes it has not finished; run it first (`delia run` runs all)")
        try:
            manifest = Manifest.model_validate_json(file.read_text())
        except ValidationError:
            raise UserError(f"{name}/{MANIFEST}: not a manifest this version can read; remove {name} to rebuild it") from None
        if manifest.kind != kind:
            raise UserError(f"{name} holds {manifest.kind}, but {kind} is required; name a folder of that kind")
        return cls(path, manifest)


@dataclass(frozen=True)
class Adopted:
    """An external file or folder, adopted as an input and identified by the hash of its content."""

    path: Path
    fingerprint: str


@dataclass(frozen=True)
class Provenance:
    """Git commit and command line of the process that builds artifacts. Captured once by the entry point and passed down."""

    git_commit: str | None
    command: list[str]


def build_once(
    path: Path,
    *,
    stage: str,
    kind: str,
    request: Config,
    inputs: Mapping[str, Input],
    provenance: Provenance,
    write: Callable[[Workspace], Counts],
) -> Artifact:
    """Return the artifact at ``path``; build it with ``write`` only if it does not exist.

    ``write`` fills ``Workspace.data`` and returns the counts. The manifest is written last, and one rename moves the directory
    to ``path``, so a reader sees the complete artifact or none.

    Raises:
        StaleArtifactError: ``path`` holds a finished artifact of a different request.
        UnfinishedError: it would be built where nothing is.
    """
    identity = {
        "stage": stage,
        "request": request.model_dump(mode="json"),
        "inputs": {role: item.fingerprint for role, item in sorted(inputs.items())},
    }
    expected = fingerprint(identity)
    if fetch(path / MANIFEST).exists():
        return _reuse(path, kind, identity, expected)
    check_may_build(path)
    workspace = prepare_workspace(path, expected)
    started = time.monotonic()
    counts = dict(write(workspace))
    adopted = [role for role, item in sorted(inputs.items()) if not isinstance(item, Artifact)]
    record = {"adopted": adopted, "fingerprint": expected, "kind": kind, "counts": counts, "seconds": round(time.monotonic() - started, 1)}
    return _finish(path, workspace, {**identity, **record}, provenance)


def retire_artifact(path: Path) -> None:
    """Remove a finished artifact atomically: rename it, then delete it. The caller has checked that no finished artifact depends on it."""
    check_may_build(path)
    if is_remote(path):
        remove(path / MANIFEST)  # first, so that what is left is an unfinished attempt
        remove(path)
        return
    trash = path.with_name(f".{path.name}.retired")
    shutil.rmtree(trash, ignore_errors=True)
    os.replace(path, trash)
    shutil.rmtree(trash, ignore_errors=True)
    logger.info("retired %s", path)


def _finish(path: Path, workspace: Workspace, record: Mapping[str, Any], provenance: Provenance) -> Artifact:
    """Write the manifest, then rename the scratch directory to ``path``."""
    origin = {"created_at": datetime.now(UTC), "git_commit": provenance.git_commit, "command": provenance.command}
    manifest = Manifest.model_validate({**record, **origin})
    scratch = workspace.data.parent
    share_files(scratch)
    publish(workspace.data)
    (scratch / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    if is_remote(path):
        publish(scratch / MANIFEST)
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        os.replace(scratch, path)
    remove(workspace.inflight)
    logger.info("built %s %s (%s) %s", manifest.stage, to_uri(path), manifest.fingerprint, manifest.counts)
    return Artifact(path, manifest)


def _reuse(path: Path, kind: str, identity: Mapping[str, Any], expected: str) -> Artifact:
    """Return the finished artifact at ``path``.

    Raises:
        StaleArtifactError: its fingerprint is not ``expected``.
    """
    artifact = Artifact.open(path, kind)
    if artifact.fingerprint == expected:
        if may_build():
            remove_inflight(path)  # of an attempt that was killed at its very end
        logger.info("reuse %s %s (%s)", identity["stage"], to_uri(path), expected)
        return artifact
    recorded = artifact.manifest.model_dump(mode="json", include={"stage", "request", "inputs"})
    what = f"{to_uri(path)} was built from another request: {'; '.join(iter_differences(recorded, identity))}"
    raise StaleArtifactError(path, f"{what}. Give the run another name (run.name=...) or remove that folder to rebuild it.")
