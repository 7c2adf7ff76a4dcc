"""What stages hand each other: a directory whose ``manifest.json`` was written last.

A directory without a manifest is an unfinished attempt and is never read. A directory with
one is finished, never changes, and says which request made it.
"""

import errno
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

from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.fingerprint import differences, fingerprint

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
DATA = "data"  # below the manifest, so that a Parquet reader of ``artifact.data`` meets only Parquet

MODEL_KIND = "hf-model/1"
CHAT_FORMAT = "chat_format.json"
"""In the data of the start model: what its chat template can do, in words."""

Counts = Mapping[str, int | float]


class Manifest(BaseModel):
    """The record beside an artifact's data."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    stage: str
    """``name/version``; the version is raised by hand when the stage's meaning changes."""
    request: dict[str, Any]
    """The resolved config that shaped the data. Placement is not in it."""
    inputs: dict[str, str]
    """Role -> fingerprint of each input."""
    fingerprint: str
    """Hash of ``stage``, ``request`` and ``inputs``: the artifact's identity."""
    kind: str
    """What the directory holds: ``parquet:exchange/1``, ``hf-model/1``, ``scores/1``."""
    counts: dict[str, int | float]
    """Rows, tokens, steps: what a reader may check before it trusts the data."""
    seconds: float
    """Wall time of the attempt that finished."""
    created_at: datetime
    git_commit: str | None
    command: list[str]


class Input(Protocol):
    """Anything with an identity that a stage may build on: an artifact, or an adopted file."""

    @property
    def fingerprint(self) -> str: ...


class StaleArtifactError(UserError):
    """A finished artifact stands where a different request wants to write."""


@dataclass(frozen=True)
class Artifact:
    """A finished directory: ``manifest.json`` and what it vouches for, under ``data/``."""

    path: Path
    manifest: Manifest

    @property
    def data(self) -> Path:
        return self.path / DATA

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    @classmethod
    def open(cls, path: Path, kind: str) -> "Artifact":
        """The finished artifact at ``path``.

        Raises:
            UserError: there is none, its stage did not finish, or it holds something other than ``kind``.
        """
        file = path / MANIFEST
        if not file.exists():
            raise UserError(f"{path} has no {MANIFEST}: the stage that writes it has not finished; run it first (`delia run` runs all)")
        try:
            manifest = Manifest.model_validate_json(file.read_text())
        except ValidationError:
            raise UserError(f"{file}: not a manifest this version can read; remove {path} to rebuild it") from None
        if manifest.kind != kind:
            raise UserError(f"{path} holds {manifest.kind}, but {kind} is wanted; name a folder of that kind")
        return cls(path, manifest)


@dataclass(frozen=True)
class Adopted:
    """A file or folder from outside, named by the hash of its content."""

    path: Path
    fingerprint: str


@dataclass(frozen=True)
class Provenance:
    """Who is building. Captured once by the entry point, passed down, never looked up."""

    git_commit: str | None
    command: list[str]


@dataclass(frozen=True)
class Workspace:
    """Where a stage's ``write`` puts things."""

    data: Path
    """Empty at the start of every attempt; becomes the artifact's data."""
    inflight: Path
    """Survives a killed attempt at the same request (checkpoints); gone when the artifact is finished."""


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
    """Return the artifact at ``path``, building it with ``write`` only if it is not there.

    ``write`` fills ``Workspace.data`` and returns the counts. That directory, with the manifest written last, becomes
    ``path`` by one rename, so a reader sees the whole artifact or none of it.

    Raises:
        StaleArtifactError: ``path`` is finished but was built from a different request.
    """
    identity = {
        "stage": stage,
        "request": request.model_dump(mode="json"),
        "inputs": {role: given.fingerprint for role, given in sorted(inputs.items())},
    }
    wanted = fingerprint(identity)
    if (path / MANIFEST).exists():
        return _reuse(path, kind, identity, wanted)
    workspace = _prepare(path, wanted)
    started = time.monotonic()
    counts = dict(write(workspace))
    record = {"fingerprint": wanted, "kind": kind, "counts": counts, "seconds": round(time.monotonic() - started, 1)}
    return _finish(path, workspace, {**identity, **record}, provenance)


def retire(path: Path) -> None:
    """Take a finished artifact away, whole in one step. Whoever calls has made sure that nothing finished was made from it."""
    gone = path.with_name(f".{path.name}.retired")
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(path, gone)
    shutil.rmtree(gone, ignore_errors=True)
    logger.info("retired %s", path)


def _finish(path: Path, workspace: Workspace, record: Mapping[str, Any], provenance: Provenance) -> Artifact:
    """Write the manifest, then move the whole into place."""
    origin = {"created_at": datetime.now(UTC), "git_commit": provenance.git_commit, "command": provenance.command}
    manifest = Manifest.model_validate({**record, **origin})
    scratch = workspace.data.parent
    (scratch / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    os.replace(scratch, path)
    shutil.rmtree(workspace.inflight, ignore_errors=True)
    logger.info("built %s %s (%s) %s", manifest.stage, path, manifest.fingerprint, manifest.counts)
    return Artifact(path, manifest)


def _reuse(path: Path, kind: str, identity: Mapping[str, Any], wanted: str) -> Artifact:
    found = Artifact.open(path, kind)
    if found.fingerprint == wanted:
        logger.info("reuse %s %s (%s)", identity["stage"], path, wanted)
        return found
    recorded = found.manifest.model_dump(mode="json", include={"stage", "request", "inputs"})
    changes = "; ".join(differences(recorded, identity))
    raise StaleArtifactError(
        f"{path} was built from another request: {changes}. Give the run another name (run.name=...) or remove that folder to rebuild it."
    )


def _prepare(path: Path, wanted: str) -> Workspace:
    scratch = path.with_name(f".{path.name}.partial")
    inflight = path.with_name(f".{path.name}.inflight-{wanted}")
    try:
        for leftover in path.parent.glob(f".{path.name}.inflight-*"):
            if leftover != inflight:
                shutil.rmtree(leftover)
        shutil.rmtree(scratch, ignore_errors=True)
        (scratch / DATA).mkdir(parents=True)
        inflight.mkdir(exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # told by what the run keeps, and where there is room
        raise UserError(
            f"run.root: cannot write {error.filename}: {error.strerror}; choose a folder you may write to (run.root=...)"
        ) from None
    return Workspace(scratch / DATA, inflight)
