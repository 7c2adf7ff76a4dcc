"""Typed configuration: pydantic models, layered from YAML files and ``key=value`` overrides.

Precedence, later wins: field defaults < ``--config`` files left to right < overrides. A section with another ``kind`` replaces
the whole section of the lower layer, because its keys differ.
Overrides are kept as text, and the schema parses them, not YAML: ``run.rev=12e4567`` is the string that was typed and not the
float infinity. Only ``null``, ``[...]`` and ``{...}`` are parsed as YAML.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from delia_ray.core.config_errors import explain_validation_error
from delia_ray.core.errors import UserError
from delia_ray.core.yaml_text import parse_yaml

ConfigT = TypeVar("ConfigT", bound="Config")
Tree = dict[str, Any]


class Config(BaseModel):
    """Base class of all configs: frozen, without extra keys, with attribute docstrings as descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_empty_paths(cls, data: Any) -> Any:
        """Refuse an empty path, which would mean the working directory."""
        for name, field in cls.model_fields.items() if isinstance(data, Mapping) else ():
            key = field.alias or name
            if cast(Mapping[str, Any], data).get(key) == "" and Path in (field.annotation, *get_args(field.annotation)):
                raise UserError(f"{key}: is empty; name a file or folder")
        return data

    @model_validator(mode="before")
    @classmethod
    def _fill_default_kind(cls, data: Any) -> Any:
        """Give a section without ``kind`` the kind of the field's default."""
        if not isinstance(data, Mapping):
            return data
        filled = dict(cast(Mapping[str, Any], data))
        for name, field in cls.model_fields.items():
            kind, section = getattr(field.default, "kind", None), filled.get(name)
            if kind is not None and isinstance(section, Mapping) and "kind" not in section:
                filled[name] = {"kind": kind, **cast(Mapping[str, Any], section)}
        return filled


class ConfigError(UserError):
    """An error in a config file or an override. The message names the key and how to correct it."""


def build_config(schema: type[ConfigT], files: Sequence[Path], overrides: Sequence[str]) -> ConfigT:
    """Merge ``files`` and ``overrides`` and validate the result as ``schema``.

    Raises:
        UserError: a file cannot be read or is not a mapping, an override has no ``=``, or a value does not
            fit the schema. All invalid fields are reported at once, by dotted path.
    """
    tree: Tree = {}
    for file in files:
        tree = _merge(tree, _read_layer(file))
    override_tree: Tree = {}
    for override in overrides:
        override_tree = _merge(override_tree, _parse_override(override))
    values = _merge(tree, override_tree)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise ConfigError("config: " + explain_validation_error(schema, values, error)) from None


def _read_layer(file: Path) -> Mapping[str, Any]:
    """Read a config file as a mapping; an empty file is an empty mapping."""
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
    """Merge ``layer`` into ``base`` recursively; a section with another ``kind`` replaces the one in ``base``."""
    merged = dict(base)
    for key, value in layer.items():
        current = merged.get(key)
        if isinstance(current, Mapping) and isinstance(value, Mapping):
            old, new = cast(Mapping[str, Any], current), cast(Mapping[str, Any], value)
            value = _merge(old, new) if new.get("kind") in (None, old.get("kind")) or "kind" not in old else new
        merged[key] = value
    return merged


def _parse_override(override: str) -> Tree:
    """Parse ``a.b=text`` as the nested mapping ``{a: {b: text}}``."""
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
