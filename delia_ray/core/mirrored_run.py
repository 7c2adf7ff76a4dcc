"""A run in an object store, as the process that drives it sees it: its manifests and small files are here, and go back when they change."""

import os
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from delia_ray.core.artifacts import MANIFEST
from delia_ray.core.errors import UserError
from delia_ray.core.storage.lease import hold_lease, is_driven_here
from delia_ray.core.storage.objects import remove, write_bytes
from delia_ray.core.storage.paths import find_mirror, is_remote, walk
from delia_ray.core.storage.transfer import fetch
from delia_ray.core.storage.uploader import Uploader

_FOLDERS = ("logs", "pages")
_PATTERNS = ("*/.*.answers-*", "*.inflight-*/controller.jsonl")
"""Small files beside or within unfinished artifacts, which the driver writes as it goes."""
_SECONDS = 10.0


def pull_run(run: Path) -> None:
    """Fetch the manifests and the small files of a run in an object store, and remove here what is no longer there.

    Nothing is done while a process of this machine drives the run: what it writes comes to the bucket a little later.
    """
    if is_remote(run) and not is_driven_here(run):
        _pull(run)


def _pull(run: Path) -> None:
    fetch(run, lambda name: name.name == MANIFEST or _is_small(name))


def pull_manifests(run: Path) -> None:
    """Fetch the manifests of a run in an object store, which other processes may have finished."""
    if is_remote(run):
        fetch(run, lambda name: name.name == MANIFEST)


@contextmanager
def drive_mirrored(run: Path, say: Callable[[str], None]) -> Generator[None]:
    """Hold a run in an object store while the block works on it, and upload the small files that it writes.

    Args:
        say: is told what is waited for.

    Raises:
        BusyError: another process holds the run.
    """
    if not is_remote(run):
        yield
        return
    with hold_lease(run, say) as lease:
        _pull(run)
        is_new = not any(_list_small(run))
        uploader = Uploader(partial(_list_small, run), _SECONDS, knows=True)
        try:
            yield
        except UserError:
            if is_new and all(file.parent.name == "logs" for file in _list_small(run)):
                remove(run / "logs")  # refused before it began: no log of it says more than the refusal
            raise
        finally:
            uploader.stop()
            if not lease.is_taken:
                uploader.sync()


def _is_small(name: Path) -> bool:
    """Whether a path below the run is one of the files that the driver writes as it goes."""
    if name.name.startswith(".") and name.name.endswith(".partial"):
        return False
    is_at_top = len(name.parts) == 1 and not name.name.startswith(".")
    return is_at_top or name.parts[0] in _FOLDERS or any(fnmatchcase(str(name), pattern) for pattern in _PATTERNS)


def _list_small(run: Path) -> Iterator[Path]:
    yield from (file for file in walk(run) if file.is_file() and _is_small(file.relative_to(run)))


def check_store(folder: Path, key: str) -> None:
    """Refuse a folder in an object store that cannot be written; other folders are not looked at.

    Args:
        key: the setting that names it.

    Raises:
        UserError: there is no such bucket, no right to write and delete there, or no place of this user's for the mirror.
    """
    if not is_remote(folder):
        return
    mirror = find_mirror(folder)
    try:
        mirror.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"placement.cluster.mirror: cannot write {mirror.parent}: {error.strerror}; name a folder of your own") from None
    if mirror.stat().st_uid != os.getuid():  # whoever owns it could put other files in place of the run's
        raise UserError(f"placement.cluster.mirror: {mirror.parent} is another user's; name a folder of your own")
    probe = folder / f".probe-{uuid.uuid4().hex}"
    try:
        write_bytes(probe, b"delia", patient=False)
        remove(probe)
    except UserError as error:
        raise type(error)(f"{key}: {error}") from None
