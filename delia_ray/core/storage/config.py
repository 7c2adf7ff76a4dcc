"""Paths in a config that may be URIs of an object store: they are read as paths in the mirror, and written as URIs again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, PlainSerializer

from delia_ray.core.storage.paths import DEFAULT_MIRROR, is_uri, mirror_uri, to_uri


def _read(value: Any) -> Any:
    return value if value is None else mirror_uri(str(value)) or value


def _write(path: Path | None) -> str | None:
    return None if path is None else to_uri(path)


StoredPath = Annotated[Path, BeforeValidator(_read), PlainSerializer(_write, return_type=str, when_used="json")]
OptionalStoredPath = Annotated[
    Path | None, BeforeValidator(_read), PlainSerializer(_write, return_type=str | None, when_used="json-unless-none")
]


def place_in_mirror(settings: Any, mirror_key: str, *keys: str) -> Any:
    """Replace the URIs in settings that are not validated yet by paths in the mirror that they name, if they name one.

    Args:
        mirror_key: dotted key of the mirror.
        keys: dotted keys of paths.
    """
    mirror = _get(settings, mirror_key)
    if not isinstance(mirror, str | Path) or not str(mirror):
        return settings
    for key in keys:
        if is_uri(text := str(_get(settings, key))):
            settings = _set(settings, key.split("."), mirror_uri(text, Path(mirror).expanduser()) or DEFAULT_MIRROR)
    return settings


def _get(settings: Any, key: str) -> Any:
    for name in key.split("."):
        settings = cast(Mapping[str, Any], settings).get(name) if isinstance(settings, Mapping) else None
    return settings


def _set(settings: Any, names: list[str], value: object) -> Any:
    section = dict(cast(Mapping[str, Any], settings))
    section[names[0]] = _set(section[names[0]], names[1:], value) if len(names) > 1 else value
    return section
