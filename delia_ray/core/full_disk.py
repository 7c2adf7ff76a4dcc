"""Detection of a full disk in the exceptions that Ray passes on, reported as a one-line ``UserError``."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from delia_ray.core.errors import UserError

_CODES = (errno.ENOSPC, errno.EDQUOT)
# Messages of the C library, of Rust (safetensors, tokenizers) and of Ray.
_MESSAGES = re.compile(r"No space left on device|Disk quota exceeded|os error 28\b|os error 122\b|StorageFull|OutOfDiskError")
_MIB = 2**20
_SHARED_MEMORY = Path("/dev/shm")
_TOP_RUNS = 3


class FullDiskGuard:
    """Context manager that turns an exception caused by a full disk, here or in a worker, into a ``UserError`` that names the disk."""

    def __init__(self, run: Path):
        """``run`` is the folder of the run."""
        self._run = run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, UserError) and is_full_disk(error):
            raise UserError(_format_message(self._run, error)) from error


def is_full_disk(error: BaseException) -> bool:
    """Whether ``error`` or one of its causes reports a full disk or an exhausted quota."""
    return any((isinstance(each, OSError) and each.errno in _CODES) or _MESSAGES.search(str(each)) for each in _iter_causes(error))


def _iter_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and all nested exceptions, including Ray's ``cause`` and Ray Train's ``worker_failures``."""
    pending, seen = [error], set[int]()
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        failures = getattr(each, "worker_failures", None)
        nested = [*each.args, each.__cause__, each.__context__, getattr(each, "cause", None)]
        nested += cast(Mapping[int, object], failures).values() if isinstance(failures, Mapping) else []
        pending += [other for other in nested if isinstance(other, BaseException)]


def _format_message(run: Path, error: BaseException) -> str:
    """Name the disk with the least free space, among those of the files in the exception, or of the run and temporary folders."""
    names = [each.filename for each in _iter_causes(error) if isinstance(each, OSError) and isinstance(each.filename, str)]
    files = [Path(name) for name in names if os.path.isabs(name)]
    folders = [
        folder for folder in map(_find_existing_folder, files or (run, Path(tempfile.gettempdir()), _SHARED_MEMORY)) if folder is not None
    ]
    full = min(folders, key=lambda folder: shutil.disk_usage(folder).free)
    free = shutil.disk_usage(full).free / _MIB
    return (
        f"run.root: the disk of {full} is full ({free:.1f} MiB are free); free some{_list_largest_runs(run.parent, full)} or name a folder "
        "on another disk (run.root=..., TMPDIR=...), and give the same command again: what is finished is kept"
    )


def _find_existing_folder(path: Path) -> Path | None:
    """Return the nearest existing folder at or above ``path``."""
    return next((each for each in (path.absolute(), *path.absolute().parents) if each.is_dir()), None)


def _list_largest_runs(root: Path, full: Path) -> str:
    """List the largest runs below ``root`` with their sizes, or nothing if ``root`` is not on the full disk."""
    if not root.is_dir() or root.stat().st_dev != full.stat().st_dev:
        return ""
    sizes = {run: sum(file.lstat().st_size for file in run.rglob("*") if file.is_file()) for run in root.iterdir() if run.is_dir()}
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:_TOP_RUNS]
    return f" (the largest runs: {', '.join(f'{run} {sizes[run] / _MIB:.0f} MiB' for run in largest)})" if largest else ""
