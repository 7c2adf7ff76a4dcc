"""The keys of a config schema as users write them: dotted, with default and documentation."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

ANY_NAME = "NAME"
"""Step of a key in place of a name that the user chooses: ``arms.NAME.ratio``."""


@dataclass(frozen=True)
class Key:
    """A key of a config. A section of several kinds has a ``kind`` key for each."""

    path: str
    default: str
    """The default as in YAML, ``required``, or the kind."""
    description: str
    kinds: tuple[str, ...] = ()
    """Kinds of its section that have it; empty where all have."""


def iter_keys(schema: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """Yield the keys of ``schema`` in the order of its fields, and those of its sections."""
    for name, field in schema.model_fields.items():
        path, description = f"{prefix}{field.alias or name}", " ".join((field.description or "").split())
        models, named = find_models(field.annotation), _find_named_models(field.annotation)
        if description or not models:
            default = "required" if field.is_required() else _format_default(_get_default(field))
            yield Key(path, default, description)
        if models or named:
            section = path if models else f"{path}.{ANY_NAME}"
            yield from _iter_section_keys(section, models or named, getattr(_get_default(field), "kind", None))


def list_members(annotation: Any) -> list[Any]:
    """List the members of a union, or the type itself, without ``Annotated``."""
    if get_origin(annotation) is Annotated:
        return list_members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for each in get_args(annotation) for member in list_members(each)]
    return [annotation]


def find_models(annotation: Any) -> list[type[BaseModel]]:
    """List the config classes among the members of a union, or the type itself if it is one."""
    return [member for member in list_members(annotation) if isinstance(member, type) and issubclass(member, BaseModel)]


def get_kind(model: Any) -> str | None:
    """Return the value of the ``kind`` field of a config class, or None for other types."""
    field = model.model_fields.get("kind") if isinstance(model, type) and issubclass(model, BaseModel) else None
    return None if field is None else cast(str, get_args(field.annotation)[0])


def _find_named_models(annotation: Any) -> list[type[BaseModel]]:
    """List the config classes of the values of a mapping."""
    mappings = [member for member in list_members(annotation) if get_origin(member) in (dict, Mapping)]
    return [model for mapping in mappings for model in find_models(get_args(mapping)[1])]


def _iter_section_keys(path: str, models: Sequence[type[BaseModel]], default_kind: str | None) -> Iterator[Key]:
    """Yield the keys of a section; one that several kinds have alike is listed once."""
    if len(models) == 1:
        yield from iter_keys(models[0], f"{path}.")
        return
    kinds_by_key: dict[Key, list[str]] = {}
    for model in models:
        kind = get_kind(model)
        assert kind is not None, f"{path}: a section of several kinds tells them apart by `kind`"
        text = inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0]
        kinds_by_key[Key(f"{path}.kind", f"{kind}, the default" if kind == default_kind else kind, " ".join(text.split()))] = []
        for key in iter_keys(model, f"{path}."):
            if key.path != f"{path}.kind":
                kinds_by_key.setdefault(key, []).append(kind)
    for key, kinds in kinds_by_key.items():
        yield key if key.kinds or len(kinds) == len(models) else replace(key, kinds=tuple(kinds))


def _get_default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _format_default(value: Any) -> str:
    """Format a default approximately as in YAML."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, BaseModel):
        return _format_default({name: getattr(value, name) for name in type(value).model_fields if _is_shown(value, name)})
    if isinstance(value, Mapping):
        pairs = cast(Mapping[str, Any], value).items()
        return f"{{{', '.join(f'{name}: {_format_default(each)}' for name, each in pairs)}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_format_default, cast(Sequence[Any], value)))}]"
    return str(value) if re.fullmatch(r"[^\s,:\[\]{}]+|[a-z]+:\S+", str(value)) else json.dumps(value, ensure_ascii=False)


def _is_shown(model: BaseModel, name: str) -> bool:
    return name == "kind" or name in model.model_fields_set
