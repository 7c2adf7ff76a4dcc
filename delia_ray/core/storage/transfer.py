"""Files between a node's mirror and the object store. With a path that is in no mirror nothing is done.

A file of the mirror is taken for the object if it has its size and its time of change, which every transfer sets.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Container, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from delia_ray.core.storage.mirror import keep_in_use, make_name, make_room
from delia_ray.core.storage.paths import Place, find_mirror, find_place, is_in_making, is_remote, settle_path, walk
from delia_ray.core.storage.stores import ask, describe, list_objects

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo

_CHUNK_BYTES = 8 * 2**20
_THREADS = 8
_FETCHING = ".fetching"
"""End of the name of a file that is being fetched."""


def fetch(path: Path, is_needed: Callable[[Path], bool] | None = None) -> Path:
    """Bring this node's copy of an object, or of all below a prefix, up to date, and return ``path``.

    What the bucket lacks is removed here, too. A path in the making is left alone: this node writes it.

    Args:
        path: a file or folder.
        is_needed: from a path below the folder to whether it is fetched; other files are left as they are.
    """
    if not is_remote(path) or is_in_making(path):
        return path
    place = find_place(path)
    with _lock(path):
        found = describe(place)
        if found.type.name == "File":
            _download(place, [(found, path)])
        else:
            if found.type.name == "Directory" and is_needed is None:
                keep_in_use(find_mirror(path), path)
            objects = ((each, Path(each.path.removeprefix(f"{place.key}/"))) for each in list_objects(place, recursive=True))
            targets = {path / name: info for info, name in objects if is_needed is None or is_needed(name)}
            _remove_others(path, targets, is_needed)
            _download(place, ((info, target) for target, info in targets.items()))
    return path


def _lock(path: Path) -> FileLock:
    """Lock a path against other processes of this node."""
    locks = find_mirror(path) / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{make_name(path)}.lock")


def _remove_others(folder: Path, kept: Container[Path], is_needed: Callable[[Path], bool] | None) -> None:
    """Remove the files that would have been fetched if the bucket had them."""
    if folder.is_file():
        folder.unlink()
    for file in walk(folder):
        if is_in_making(file):  # by a process of this node
            continue
        if file.is_dir() and is_needed is None:
            with suppress(OSError):  # it is not empty
                file.rmdir()
        elif file.is_file() and file not in kept and (is_needed is None or is_needed(file.relative_to(folder))):
            file.unlink(missing_ok=True)


def _download(place: Place, targets: "Iterable[tuple[FileInfo, Path]]") -> None:
    """Download the objects whose files here differ."""
    missing = [(info, target) for info, target in targets if not _is_current(info, target)]
    if not missing:
        return
    make_room(find_mirror(missing[0][1]), sum(info.size for info, _ in missing))
    _in_threads(lambda pair: _download_one(place, *pair), missing)


def _is_current(info: "FileInfo", file: Path) -> bool:
    try:
        status = file.stat()
    except OSError:
        return False
    # Whole seconds: some stores list an object's time more exactly than they tell it for one object.
    return status.st_size == info.size and status.st_mtime_ns // 10**9 == (info.mtime_ns or 0) // 10**9


def _download_one(place: Place, info: "FileInfo", target: Path) -> None:
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}{_FETCHING}")
    target.parent.mkdir(parents=True, exist_ok=True)

    def copy(store: Any) -> "FileInfo":
        with store.open_input_stream(info.path) as source, scratch.open("wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK_BYTES)
        now: FileInfo = store.get_file_info(info.path)  # it may have been written again since it was listed
        if scratch.stat().st_size != now.size:
            raise OSError(f"{info.path} was cut off after {scratch.stat().st_size} of {now.size} bytes")
        return now

    try:
        _set_time(scratch, ask(place, copy))
        os.replace(scratch, target)
    except FileNotFoundError:  # it was removed since it was listed
        target.unlink(missing_ok=True)
    finally:
        scratch.unlink(missing_ok=True)


def publish(path: Path) -> None:
    """Upload a file, or all files below a folder; files in the making are moved to where they will be looked for."""
    if not is_remote(path):
        return
    if path.is_file():
        _publish_one(path)
        return
    if not path.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    keep_in_use(find_mirror(path), settle_path(path))
    _in_threads(_publish_one, [file for file in walk(path) if file.is_file() and not file.name.endswith(_FETCHING)])


def _publish_one(file: Path) -> None:
    _set_time(file, upload(file, file))
    if (settled := settle_path(file)) != file:
        settled.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, settled)


def _set_time(file: Path, info: "FileInfo") -> None:
    time = info.mtime_ns or 0
    os.utime(file, ns=(time, time))


def upload(source: Path, path: Path) -> "FileInfo":
    """Upload any file of this machine to the object that ``path``, which is in a mirror, stands for, and describe it."""
    place = find_place(path)

    def copy(store: Any) -> "FileInfo":
        with source.open("rb") as stream, store.open_output_stream(place.key) as sink:
            shutil.copyfileobj(stream, sink, _CHUNK_BYTES)
        info: FileInfo = store.get_file_info(place.key)
        if info.size != (size := source.stat().st_size):
            raise OSError(f"{place.key} has {info.size} bytes of {size} that were written")
        return info

    return ask(place, copy)


@contextmanager
def output_folder(out: Path) -> Generator[None]:
    """Publish what the block writes below ``out``. In a mirror ``out`` is empty at the start, whatever an earlier attempt left there."""
    if is_remote(out):
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    yield
    publish(out)


def find_published(path: Path) -> Path:
    """Where a file or folder lies after ``output_folder`` has published it: in a mirror, no longer among those in the making."""
    return settle_path(path) if is_remote(path) else path


def _in_threads(action: Callable[[Any], None], items: list[Any]) -> None:
    if len(items) == 1:
        action(items[0])
        return
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(action, items):
            pass
