"""API keys of the endpoint."""

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from delia_ray.core.errors import UserError

VARIABLE = "DELIA_API_KEYS"
_MIN_LENGTH = 16
_ADVICE = "`openssl rand -hex 24` makes one"


def read_keys(file: Path | None, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Read the keys from a file, or from the environment if none is named.

    Raises:
        UserError: the file or variable cannot be read or holds none, or a key is too short or no single word of visible ASCII.
    """
    if file is None:
        keys = [key.strip() for key in environment.get(VARIABLE, "").split(",") if key.strip()]
        if VARIABLE in environment and not keys:
            raise UserError(f"{VARIABLE}: is set and holds no key; set it to keys between commas, or unset it")
        return _check(keys, VARIABLE)
    name = f"placement.serve.access.keys: {file}"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{name}: {getattr(error, 'strerror', None) or 'no UTF-8 text'}; name a file with a key in each line") from None
    if keys := _check([line for line in map(str.strip, lines) if line and not line.startswith("#")], name):
        return keys
    raise UserError(f"{name} holds no key; write one in each line, for example from `openssl rand -hex 24`")


def _check(keys: Iterable[str], name: str) -> tuple[str, ...]:
    keys = tuple(keys)
    for number, key in enumerate(keys, 1):  # the message must not hold the key
        if len(key) < _MIN_LENGTH:
            raise UserError(f"{name}: key {number} has {len(key)} characters, and {_MIN_LENGTH} are needed; {_ADVICE}")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise UserError(f"{name}: key {number} holds a character that no header takes; {_ADVICE}")
    return keys


class ApiKeys:
    """Digests of keys, compared in constant time."""

    def __init__(self, keys: Iterable[str]):
        self._digests = tuple(_digest(key) for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def find(self, authorization: str) -> int | None:
        """Find the number of the key in the value of an ``Authorization`` header; None if it holds none of them."""
        scheme, _, key = authorization.partition(" ")
        digest, found = _digest(key.strip()), None
        for number, each in enumerate(self._digests):
            if hmac.compare_digest(digest, each):
                found = number
        return found if scheme.lower() == "bearer" else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
