"""Paths of the mirror: ``<mirror>/.delia-mirror/s3/bucket/key`` is the file of this node for the object ``s3://bucket/key``.

The path is the same on every node, so that it can be handed to a worker as any other.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from delia_ray.core.errors import UserError

DEFAULT_MIRROR = Path("/tmp/delia_ray")
MIRROR_GIB = "DELIA_MIRROR_GIB"
"""Environment variable of a worker: the size of its node's mirror (``placement.cluster.mirror_gib``)."""
_MARK = ".delia-mirror"
_SCHEMES = {"s3": "s3", "gs": "gs", "gcs": "gs"}
_URI = re.compile(r"(?:([A-Za-z][\w+.-]*)://|(s3|gs|gcs):/)(.*)", re.DOTALL)
"""A ``Path`` made of a URI has one slash only."""
_BUCKET = re.compile(r"[A-Za-z0-9][\w.-]+")
_IN_MAKING = re.compile(r"\.(.+)\.partial")


class Place(NamedTuple):
    """An object, or all objects below a prefix."""

    scheme: str
    """``s3`` or ``gs``."""
    bucket: str
    key: str
    """``bucket/key``, without a slash at the end, as pyarrow's file systems take it."""

    @property
    def uri(self) -> str:
        return f"{self.scheme}://{self.key}"


def is_uri(text: str) -> bool:
    """Whether ``text`` is a URI of an object store that is known."""
    found = _URI.fullmatch(text)
    return found is not None and (found[1] or found[2]).lower() in _SCHEMES and _names_bucket(found[3])


def _names_bucket(key: str) -> bool:
    bucket, *keys = key.split("/")
    return _BUCKET.fullmatch(bucket) is not None and ".." not in keys


def mirror_uri(text: str, mirror: Path = DEFAULT_MIRROR) -> Path | None:
    """Return the path of a URI in ``mirror``; None for a text that is no URI.

    Raises:
        UserError: no object store of that scheme is known, or the URI names no bucket.
    """
    if (found := _URI.fullmatch(text)) is None:
        return None
    named, key = found[1] or found[2], found[3]
    scheme = _SCHEMES.get(named.lower())
    if scheme is None:
        raise UserError(f"{named}:// cannot be used; name s3://bucket/folder, gs://bucket/folder, or a folder that all nodes see")
    if not _names_bucket(key):
        raise UserError(f"{text!r} names no bucket and folder; write {scheme}://bucket/folder")
    return mirror.absolute().joinpath(_MARK, scheme, *(part for part in key.split("/") if part not in ("", ".")))


def is_remote(path: Path) -> bool:
    """Whether ``path`` is that of an object."""
    return _MARK in path.parts


def is_in_making(path: Path) -> bool:
    """Whether ``path`` lies in the scratch folder of an artifact, whose objects get their final names at once."""
    return any(_IN_MAKING.fullmatch(part) for part in path.parts)


def settle_path(path: Path) -> Path:
    """Return ``path`` with ``NAME`` in place of every ``.NAME.partial``: where it lies once it is published."""
    return Path(*(_IN_MAKING.sub(r"\1", part) for part in path.parts))


def walk(folder: Path) -> Iterator[Path]:
    """List the files and folders below ``folder``, each folder after what is in it. Others may remove some meanwhile."""
    for parent, folders, files in os.walk(folder, topdown=False):
        yield from (Path(parent, name) for name in (*files, *folders))


def find_place(path: Path) -> Place:
    """Return the object, or the prefix, of a path in a mirror."""
    parts = settle_path(path).parts
    scheme, bucket, *keys = parts[parts.index(_MARK) + 1 :]
    return Place(scheme, bucket, "/".join((bucket, *keys)))


def find_mirror(path: Path) -> Path:
    """Return the folder of the mirror that ``path`` lies in, the mark included."""
    parts = path.parts
    return Path(*parts[: parts.index(_MARK) + 1])


def to_uri(path: Path) -> str:
    """Return the URI of a path in a mirror, and any other path as it is: what a user reads."""
    return find_place(path).uri if is_remote(path) else str(path)
