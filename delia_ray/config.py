"""Typed configuration: pydantic models, layered from YAML files and ``key=value`` overrides.

Precedence, later wins: field defaults < ``--config`` files left to right < overrides. A section of another ``kind`` takes the
place of the whole section below it, since its keys are others.
Overrides arrive as text and stay text: the schema, not YAML, decides what they mean, so
``run.rev=12e4567`` is the string a user typed and never the float infinity. Only ``null``, ``[...]``
and ``{...}`` are YAML.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from delia_ray.config_errors import explain
from delia_ray.errors import UserError
from delia_ray.yaml_text import parse_yaml

ConfigT = TypeVar("ConfigT", bound="Config")
Tree = dict[str, Any]


class Config(BaseModel):
    """Base of every config: immutable, closed to unknown keys, documented in place."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _no_empty_path(cls, data: Any) -> Any:
        """An empty path would be the working folder."""
        for name, field in cls.model_fields.items() if isinstance(data, Mapping) else ():
            key = field.alias or name
            if cast(Mapping[str, Any], data).get(key) == "" and Path in (field.annotation, *get_args(field.annotation)):
                raise UserError(f"{key}: is empty; name a file or folder")
        return data

    @model_validator(mode="before")
    @classmethod
    def _default_variant(cls, data: Any) -> Any:
        """A section that names no ``kind`` means the kind of its default."""
        if not isinstance(data, Mapping):
            return data
        filled = dict(cast(Mapping[str, Any], data))
        for name, field in cls.model_fields.items():
            kind, given = getattr(field.default, "kind", None), filled.get(name)
            if kind is not None and isinstance(given, Mapping) and "kind" not in given:
                filled[name] = {"kind": kind, **cast(Mapping[str, Any], given)}
        return filled


class ConfigError(UserError):
    """A config file or override the user can fix. The message says where and how."""


def build_config(schema: type[ConfigT], files: Sequence[Path], overrides: Sequence[str]) -> ConfigT:
    """Merge ``files`` and ``overrides`` and validate the result as ``schema``.

    Raises:
        UserError: a file cannot be read or is not a mapping, an override has no ``=``, or a value does not
            fit the schema. Every bad field is reported at once, by its dotted path.
    """
    tree: Tree = {}
    for file in files:
        tree = _merge(tree, _read(file))
    said: Tree = {}
    for override in overrides:
        said = _merge(said, _parse_override(override))
    given = _merge(tree, said)
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        raise ConfigError("config: " + explain(schema, given, error)) from None


def describe(schema: type[BaseModel], prefix: str = "") -> list[str]:
    """One line a field of ``schema``: dotted path, default, documentation."""
    lines: list[str] = []
    for name, field in schema.model_fields.items():
        nested = list(_models(field.annotation))
        for model in nested:
            lines += describe(model, f"{prefix}{name}.")
        if not nested:
            default = "required" if field.is_required() else _shown(field.default)
            lines.append(f"  {prefix}{field.alias or name}  ({default})  {' '.join((field.description or '').split())}".rstrip())
    return list(dict.fromkeys(lines))


def _shown(default: Any) -> str:
    """A default as it would be written in YAML, or nearly."""
    return str(default) if isinstance(default, Path) else repr(default)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"--config {file}: {error.strerror}; name a YAML file that exists (`delia init > my.yaml` writes one)") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config {file}: not UTF-8 ({error.reason} at byte {error.start + 1}); save the file as UTF-8") from None
    layer: object = parse_yaml(text, f"--config {file}")
    if layer is None:
        return {}
    if not isinstance(layer, Mapping):
        raise ConfigError(f"--config {file}: expected a mapping at the top level, found {type(layer).__name__}")
    return cast(Mapping[str, Any], layer)


def _merge(base: Mapping[str, Any], layer: Mapping[str, Any]) -> Tree:
    merged = dict(base)
    for key, value in layer.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            there, here = cast(Mapping[str, Any], below), cast(Mapping[str, Any], value)
            value = _merge(there, here) if here.get("kind") in (None, there.get("kind")) or "kind" not in there else here
        merged[key] = value
    return merged


def _parse_override(override: str) -> Tree:
    path, equals, text = override.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise ConfigError(f"override {override!r} is not KEY=VALUE, for example mix.ratio=4")
    value: Any = None if text == "null" else text
    if text[:1] in ("[", "{"):
        value = parse_yaml(text, f"override {path}")
    for key in reversed(keys):
        value = {key: value}
    return value


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The config classes an annotation can hold, looking through unions and ``Annotated``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []
