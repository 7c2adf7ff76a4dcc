"""The size of a node's mirror: folders that no living process has fetched are removed, the longest unused first, before more is fetched."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from delia_ray.core.storage.paths import MIRROR_GIB, walk

_GIB = 2**30
_IN_USE: dict[tuple[int, Path], int] = {}
"""(process, folder) -> the open file whose lock the system releases when the process ends."""


def make_name(path: Path) -> str:
    """Make the name of a file about ``path``."""
    return hashlib.blake2b(str(path).encode(), digest_size=12).hexdigest()


def keep_in_use(mirror: Path, folder: Path) -> None:
    """Record that this process uses ``folder`` now, and until it ends."""
    record = mirror / ".used" / make_name(folder)
    record.parent.mkdir(parents=True, exist_ok=True)
    key = (os.getpid(), folder)
    while key not in _IN_USE:
        descriptor = os.open(record, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not _is_same(descriptor, record):  # removed by another process since it was opened
            os.close(descriptor)
            continue
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(str(folder)).encode(), 0)
        _IN_USE[key] = descriptor
    os.utime(record)


def _is_same(descriptor: int, record: Path) -> bool:
    with suppress(FileNotFoundError):
        return record.stat().st_ino == os.fstat(descriptor).st_ino
    return False


def make_room(mirror: Path, size: int) -> None:
    """Remove folders that are not in use until ``size`` more bytes fit into the mirror, as far as that is possible."""
    limit = int(float(os.environ.get(MIRROR_GIB) or 0) * _GIB)
    if not limit:
        return
    excess = sum(sum(_iter_sizes(place)) for place in mirror.iterdir() if not place.name.startswith(".")) + size - limit
    if excess <= 0:
        return
    records = sorted((mirror / ".used").glob("*"), key=_last_use)
    in_use = {folder for record in records if (folder := _read_if_used(record))}
    for record in records:
        if excess > 0:
            excess -= _remove_unused(record, in_use)


def _read_if_used(record: Path) -> Path | None:
    """Return the folder of a record that a process holds."""
    with suppress(FileNotFoundError), record.open("rb") as stream:
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Path(json.loads(stream.read() or b'"/"'))  # not written yet: nothing is removed meanwhile
    return None


def _remove_unused(record: Path, in_use: set[Path]) -> int:
    """Remove a record and its folder unless a process uses them, or a folder within; return the bytes that are free now."""
    with suppress(FileNotFoundError, BlockingIOError), record.open("rb") as stream:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder = Path(json.loads(stream.read() or b'""'))
        if record.parent.parent not in folder.parents:  # cut off when its process ended
            record.unlink()
            return 0
        if any(each.is_relative_to(folder) or folder.is_relative_to(each) for each in in_use):
            return 0
        size = sum(_iter_sizes(folder))
        shutil.rmtree(folder, ignore_errors=True)
        record.unlink()
        return size
    return 0


def _last_use(record: Path) -> float:
    with suppress(FileNotFoundError):
        return record.stat().st_mtime
    return 0.0


def _iter_sizes(place: Path) -> Iterator[int]:
    for file in walk(place):
        with suppress(FileNotFoundError):
            if file.is_file():
                yield file.stat().st_size
