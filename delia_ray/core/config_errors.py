"""Messages for pydantic's validation errors: the key as written in YAML, the requirement and the value found."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from functools import reduce
from typing import Any, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError

from delia_ray.core.config_keys import find_models, get_kind, iter_keys, list_members

_MAX_VALUE_CHARACTERS = 80
_KEY_SIMILARITY = 0.7
_SECTION = "must be a section of keys, like {{key: value}}"
_LIST = "must be a list like [a, b]"
_TEMPLATES = {
    "missing": "is missing; give it a value",
    "model_type": _SECTION,
    "model_attributes_type": _SECTION,
    "dict_type": _SECTION,
    "mapping_type": _SECTION,
    "tuple_type": _LIST,
    "list_type": _LIST,
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text, in quotation marks if need be",
    "path_type": "must be the path of a file or folder",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "invalid_key": "has a key that is no text; put it in quotation marks",
    "int_parsing_size": "must be a smaller whole number",
    "recursion_loop": "contains itself; write it out",
    "union_tag_invalid": "unknown kind '{tag}'; use {expected_tags}",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "must hold at least {min_length}",
    "too_long": "must hold at most {max_length}",
}
_WITHOUT_VALUE = ("missing", "union_tag_invalid", "extra_forbidden")


def explain_validation_error(schema: type[BaseModel], values: Mapping[str, Any], error: ValidationError) -> str:
    """Format all errors in ``values`` on one line; errors of the members of a union at one key are joined with "or"."""
    messages: dict[str, list[str]] = {}
    shown_values: dict[str, str] = {}
    written: set[str] = set()
    for each in error.errors():
        steps, section, types = _resolve_location(schema, each["loc"])
        is_missing = each["type"] == "missing"
        path = _find_written_path(steps, values, is_missing)
        is_written = _has_path(values, path[:-1] if is_missing else path)
        value = _get_at(values, path) if is_written and not is_missing else each["input"]
        match each["type"]:
            case "extra_forbidden":
                text = _explain_unknown_key(schema, path, section)
            case "union_tag_not_found":
                text = f"has no `kind`; use {', '.join(_list_kinds(schema, each['loc']))}"
            case "value_error":
                path, text = _split_validator_message(path, types, each)
            case "missing":
                path, text = [*path, *_find_first_required(types)], _format_template(each)
            case _:
                text = _format_template(each)
        key = format_key(path)
        if is_written:
            written.add(key)
        if text not in messages.setdefault(key, []):
            messages[key].append(text)
        if path and _shows_value(each["type"], value, text):
            shown_values[key] = _format_value(value)
    # A value that is not written at its path was inherited from another section, where the error is reported.
    keys = [key for key in messages if key in written or not written]
    inner = [key for key in keys if not any(other.startswith((f"{key}.", f"{key}[")) for other in keys)]
    return "; ".join(
        (f"{key}: " if key else "") + ", or ".join(messages[key]).replace(", or must", ", or") + shown_values.get(key, "") for key in inner
    )


def explain_section_error(key: str, section: Mapping[str, Any], error: ValidationError) -> str:
    """Format the first error of a section that a library validates with its own models, which name only part of the path."""
    each = error.errors()[0]
    path = next(_find_paths_ending_in(section, each["loc"]), None)
    text = "unknown key; correct or remove it" if each["type"] == "extra_forbidden" else _format_template(each)
    value = _format_value(each["input"]) if path is None or each["type"] not in _WITHOUT_VALUE else ""
    return f"{key}.{format_key(path or each['loc'])}: {text}{value}"


def format_key(path: Sequence[str | int]) -> str:
    """Format a path as a dotted key: ``mix.ratio``, ``sources[0].path``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _find_paths_ending_in(values: Any, end: Sequence[str | int], parent: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the paths in ``values`` whose last steps are ``end``."""
    if _has_path(values, end):
        yield (*parent, *end)
    if isinstance(values, Mapping):
        for key, value in cast(Mapping[str, Any], values).items():
            yield from _find_paths_ending_in(value, end, (*parent, key))


def _find_written_path(path: Sequence[str | int], values: Any, is_missing: bool) -> list[str | int]:
    """Drop the step of ``path`` that is not written in YAML: a blend's ``sources[0].path`` is validated as ``sources[0].source.path``."""
    for candidate in ([*path], *([*path[:index], *path[index + 1 :]] for index in range(len(path)))):
        if candidate and _has_path(values, candidate[:-1] if is_missing else candidate):
            return candidate
    return [*path]


def _has_path(values: Any, path: Sequence[str | int]) -> bool:
    """Whether ``values`` has a value at ``path``."""
    if not path:
        return True
    step, *rest = path
    if isinstance(step, int) and isinstance(values, Sequence) and not isinstance(values, str):
        return step < len(cast(Sequence[Any], values)) and _has_path(values[step], rest)
    return isinstance(values, Mapping) and step in values and _has_path(values[step], rest)


def _get_at(values: Any, path: Sequence[str | int]) -> Any:
    return reduce(lambda value, step: value[step], path, values)


def _split_validator_message(path: list[str | int], types: Sequence[Any], error: Any) -> tuple[list[str | int], str]:
    """Return the path and message of one of our validators; a leading key of its section (``sources: two are ...``) joins the path."""
    text = str(error["ctx"]["error"])
    key, colon, rest = text.partition(": ")
    fields = {field.alias or name for each in types for model in find_models(each) for name, field in model.model_fields.items()}
    return ([*path, key], rest) if path and colon and key in fields else (path, text)


def _find_first_required(types: Sequence[Any]) -> list[str]:
    """Return the first required key of a missing section, such as ``name`` of ``run``."""
    models = find_models(types[0]) if len(types) == 1 else []
    required = [field.alias or name for model in models for name, field in model.model_fields.items() if field.is_required()]
    return required[:1] if len(models) == 1 else []


def _shows_value(kind: str, value: Any, text: str) -> bool:
    """Whether the message should end with the value: only if the text does not already contain it."""
    if kind == "value_error":
        is_in_text = value != "" and re.search(rf"(?<!\w){re.escape(str(value))}(?!\w)", text)
        return not isinstance(value, Mapping) and not is_in_text
    return kind not in _WITHOUT_VALUE


def _format_value(value: Any) -> str:
    """Format ``, found VALUE``, with a long value cut."""
    shown = value.isoformat() if isinstance(value, date) else repr(value)
    return f", found {shown if len(shown) <= _MAX_VALUE_CHARACTERS else shown[:_MAX_VALUE_CHARACTERS] + '...'}"


def _format_template(error: Any) -> str:
    """Return our message for pydantic's error type, or pydantic's own."""
    return _TEMPLATES[error["type"]].format(**error.get("ctx", {})) if error["type"] in _TEMPLATES else error["msg"]


def _explain_unknown_key(schema: type[BaseModel], path: Sequence[str | int], types: Sequence[Any]) -> str:
    """Return the message for an unknown key, with the most similar key of its section or the same key of another section."""
    *parent, last = path
    key = str(last)
    known = [field.alias or name for each in types for model in find_models(each) for name, field in model.model_fields.items()]
    near = get_close_matches(key, known, n=1, cutoff=_KEY_SIMILARITY)
    elsewhere = [each.path for each in iter_keys(schema) if each.path.rpartition(".")[2] == key]
    if format_key(path) in elsewhere:
        return "no key of this `kind` (`delia keys` lists them)"
    suggestions = [format_key([*parent, near[0]])] if near else elsewhere[:1]
    return f"unknown key; did you mean {suggestions[0]}?" if suggestions else "unknown key (`delia keys` lists them)"


def _list_kinds(schema: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """List the valid values of ``kind`` at a location."""
    _, types, _ = _resolve_location(schema, (*location, "kind"))
    return [kind for each in types for member in list_members(each) if (kind := get_kind(member))]


def _resolve_location(schema: type[BaseModel], location: Sequence[str | int]) -> tuple[list[str | int], list[Any], list[Any]]:
    """Resolve pydantic's location of an error: its path without names of union members, the types of its section, and its own types."""
    path: list[str | int] = []
    types: list[Any] = [schema]
    section = types
    for step in location:
        members = [member for each in types for member in list_members(each)]
        chosen = [member for member in members if get_kind(member) == step]
        if chosen and len([member for member in members if get_kind(member)]) > 1:
            types = section = chosen
            continue
        children = [each for member in members for each in _iter_child_types(member, step)]
        if not children and not any(isinstance(member, type) and issubclass(member, BaseModel) for member in members):
            continue  # a member of a union of plain types
        path.append(step)
        section, types = types, children
    return path, section, types


def _iter_child_types(parent: Any, step: str | int) -> Iterator[Any]:
    """Yield the types of the value at ``step`` of a value of type ``parent``."""
    if isinstance(parent, type) and issubclass(parent, BaseModel):
        yield from (field.annotation for name, field in parent.model_fields.items() if step in (name, field.alias))
    elif isinstance(step, int) and get_origin(parent) in (tuple, list):
        yield from (each for each in get_args(parent) if each is not Ellipsis)
    elif get_origin(parent) in (dict, Mapping):
        yield get_args(parent)[1]
