"""What is in a folder, and single files of it: in a mirror, of the bucket, whether this node has them or not; elsewhere, of the disk."""

import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delia_ray.core.storage.paths import Place, find_place, is_remote, settle_path
from delia_ray.core.storage.stores import ask, connect, describe, list_objects, list_prefixes

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


def remove(path: Path) -> None:
    """Remove a file, or a folder with all below it, here and in the bucket; there may be none."""
    remove_here(path)
    if not is_remote(path):
        return
    place = find_place(path)
    match describe(place).type.name:
        case "File":
            _delete(place, lambda store: store.delete_file(place.key))
        case "Directory":
            _delete(place, lambda store: store.delete_dir(place.key))
        case _:
            pass


def remove_here(path: Path) -> None:
    """Remove this node's copy of a file or folder, also where it was in the making."""
    for each in {path, settle_path(path)} if is_remote(path) else (path,):
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)
        else:
            each.unlink(missing_ok=True)


def _delete(place: Place, action: Callable[[Any], None]) -> None:
    with suppress(FileNotFoundError):  # somebody else was faster
        ask(place, action)


def exists(path: Path) -> bool:
    """Whether there is a file, or something below a folder: in a mirror, in the bucket."""
    if not is_remote(path):
        return path.exists()
    place = find_place(path)
    found = describe(place).type.name  # a prefix may be there without an object: stores without folders are given a mark for one
    return found == "File" or (found == "Directory" and bool(list_objects(place, recursive=True)))


def locate(path: Path) -> "tuple[str, FileSystem | None]":
    """Return the name of a file or folder and the file system to read or write it with, for a library that takes both."""
    if not is_remote(path):
        return str(path), None
    place = find_place(path)
    return place.key, connect(place.scheme, place.bucket)


def list_files(folder: Path, pattern: str = "*") -> list[Path]:
    """List the files in ``folder`` by name: in a mirror, those of the bucket, whether they are here or not."""
    if not is_remote(folder):
        names = os.listdir(folder) if folder.is_dir() else []  # text sorts faster than paths
        return [folder / name for name in sorted(names) if fnmatchcase(name, pattern)]
    objects = list_objects(find_place(folder), recursive=False)
    return sorted(folder / each.base_name for each in objects if fnmatchcase(each.base_name, pattern))


def list_folders(folder: Path, pattern: str) -> list[Path]:
    """List the folders in ``folder`` by name: in a mirror, those of the bucket."""
    if not is_remote(folder):
        return sorted(each for each in folder.glob(pattern) if each.is_dir())
    return sorted(folder / name for name in list_prefixes(find_place(folder)) if fnmatchcase(name, pattern))


def sum_sizes(folder: Path, pattern: str) -> int:
    """Sum the bytes of the files in ``folder``: in a mirror, of those of the bucket."""
    if not is_remote(folder):
        return sum(file.stat().st_size for file in folder.glob(pattern))
    return sum(each.size for each in list_objects(find_place(folder), recursive=False) if fnmatchcase(each.base_name, pattern))


def read_bytes(path: Path, start: int = 0) -> bytes:
    """Read a file from byte ``start`` on: in a mirror, straight from the bucket, since another node may write it.

    Raises:
        FileNotFoundError: there is none.
    """
    if not is_remote(path):
        with path.open("rb") as stream:
            stream.seek(start)
            return stream.read()
    place = find_place(path)

    def read(store: Any) -> bytes:
        with store.open_input_file(place.key) as stream:
            size = stream.size()
            return b"" if size <= start else stream.read_at(size - start, start)

    return ask(place, read)


def write_bytes(path: Path, content: bytes, *, patient: bool = True) -> None:
    """Write a file whole: in a mirror, straight to the bucket, where readers find all of it or nothing."""
    if not is_remote(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        scratch.write_bytes(content)
        os.replace(scratch, path)
        return
    place = find_place(path)

    def write(store: Any) -> None:
        with store.open_output_stream(place.key) as sink:
            sink.write(content)

    ask(place, write, patient=patient)
