"""Fingerprints of requests and files: hashes that are equal in every process."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from delia_ray.core.errors import UserError


def to_canonical_json(value: object) -> str:
    """Serialize ``value`` as compact JSON with sorted keys. Raises ``TypeError`` for a value that JSON cannot represent."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: object) -> str:
    """Return the first 12 hex digits of the SHA-256 of ``to_canonical_json(value)``."""
    return hashlib.sha256(to_canonical_json(value).encode()).hexdigest()[:12]


def hash_file(file: Path) -> str:
    """Return the SHA-256 of the file's bytes, 64 hex digits.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; name a file that can be read") from None


def hash_folder(folder: Path) -> str:
    """Return the first 12 hex digits of a hash over the names and contents of all files below ``folder``.

    Raises:
        UserError: a file cannot be read.
    """
    return fingerprint({str(file.relative_to(folder)): hash_file(file) for file in sorted(folder.rglob("*")) if file.is_file()})


def iter_differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield a line for each leaf that differs, as ``path: old -> new``."""
    for key in sorted(old.keys() | new.keys()):
        before, after, path = old.get(key), new.get(key), f"{prefix}{key}"
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from iter_differences(cast(Mapping[str, Any], before), cast(Mapping[str, Any], after), f"{path}.")
        elif before != after:
            yield f"{path}: {before!r} -> {after!r}"
