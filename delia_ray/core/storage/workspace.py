"""The scratch folder of an attempt at an artifact, and the folder for its checkpoints."""

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

from delia_ray.core.errors import UserError
from delia_ray.core.storage.objects import list_folders, remove
from delia_ray.core.storage.paths import is_remote

DATA = "data"  # a folder of its own, so that a Parquet reader of ``artifact.data`` finds only Parquet files


@dataclass(frozen=True)
class Workspace:
    """Output folders of a stage's ``write`` function."""

    data: Path
    """Empty at the start of every attempt; becomes the artifact's data."""
    inflight: Path
    """Folder for checkpoints: kept when an attempt at the same request is killed, removed when the artifact is finished."""


def remove_inflight(path: Path, kept: Path | None = None) -> None:
    """Remove the checkpoint folders of attempts at the artifact, but for ``kept``."""
    for folder in {*list_folders(path.parent, f".{path.name}.inflight-*")} - {kept}:
        remove(folder)


def prepare_workspace(path: Path, expected: str) -> Workspace:
    """Create an empty scratch directory and the checkpoint folder of this request; remove those of other requests."""
    scratch = path.with_name(f".{path.name}.partial")
    inflight = path.with_name(f".{path.name}.inflight-{expected}")
    try:
        if is_remote(path):
            remove(path)  # what an attempt that was killed has published
        remove_inflight(path, kept=inflight)
        shutil.rmtree(scratch, ignore_errors=True)
        (scratch / DATA).mkdir(parents=True)
        inflight.mkdir(exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # ``FullDiskGuard`` reports it with the free space
        raise UserError(
            f"run.root: cannot write {error.filename}: {error.strerror}; choose a folder you may write to (run.root=...)"
        ) from None
    return Workspace(scratch / DATA, inflight)
