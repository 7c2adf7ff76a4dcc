"""A full disk, found in whatever an exception has become on its way through a cluster, and told in one line."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from delia_ray.errors import UserError

_CODES = (errno.ENOSPC, errno.EDQUOT)
# Of the C library, of Rust (safetensors, tokenizers) and of Ray.
_WORDS = re.compile(r"No space left on device|Disk quota exceeded|os error 28\b|os error 122\b|StorageFull|OutOfDiskError")
_MIB = 2**20
_MEMORY = Path("/dev/shm")
_TOP_RUNS = 3


class TellsFullDisk:
    """Turns an exception that a full disk caused, in this process or a worker, into one that says where to make room."""

    def __init__(self, run: Path):
        self._run = run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, UserError) and is_full_disk(error):
            raise UserError(_message(self._run, error)) from error


def is_full_disk(error: BaseException) -> bool:
    """Whether ``error``, or what it was made from, says that a disk or a quota is used up."""
    return any((isinstance(each, OSError) and each.errno in _CODES) or _WORDS.search(str(each)) for each in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and every exception it holds: Ray keeps a task's own under ``cause``, Ray Train a worker's under ``worker_failures``."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        failures = getattr(each, "worker_failures", None)
        held = [*each.args, each.__cause__, each.__context__, getattr(each, "cause", None)]
        held += cast(Mapping[int, object], failures).values() if isinstance(failures, Mapping) else []
        waiting += [other for other in held if isinstance(other, BaseException)]


def _message(run: Path, error: BaseException) -> str:
    named = [each.filename for each in _causes(error) if isinstance(each, OSError) and isinstance(each.filename, str)]
    told = [Path(name) for name in named if os.path.isabs(name)]
    places = [place for place in map(_existing, told or (run, Path(tempfile.gettempdir()), _MEMORY)) if place is not None]
    full = min(places, key=lambda place: shutil.disk_usage(place).free)
    free = shutil.disk_usage(full).free / _MIB
    return (
        f"run.root: the disk of {full} is full ({free:.1f} MiB are free); free some{_largest(run.parent, full)} or name a folder on "
        "another disk (run.root=..., TMPDIR=...), and give the same command again: what is finished is kept"
    )


def _existing(place: Path) -> Path | None:
    """The nearest folder above ``place`` that is there."""
    return next((each for each in (place.absolute(), *place.absolute().parents) if each.is_dir()), None)


def _largest(root: Path, full: Path) -> str:
    """The largest runs on the full disk, if the runs are on it."""
    if not root.is_dir() or root.stat().st_dev != full.stat().st_dev:
        return ""
    sizes = {run: sum(file.lstat().st_size for file in run.rglob("*") if file.is_file()) for run in root.iterdir() if run.is_dir()}
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:_TOP_RUNS]
    return f" (the largest runs: {', '.join(f'{run} {sizes[run] / _MIB:.0f} MiB' for run in largest)})" if largest else ""
