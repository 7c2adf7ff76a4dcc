"""What pydantic found wrong with a config, in the words of its user: which key, what it must be, what stands there."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError

_LONGEST = 80
_ALIKE = 0.7
_SECTION = "must be a section of keys, like {{key: value}}"
_LIST = "must be a list like [a, b]"
_PLAIN = {
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
    "union_tag_invalid": "unknown kind '{tag}'; use {expected_tags}",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "must hold at least {min_length}",
    "too_long": "must hold at most {max_length}",
}
_SAYS_WHAT_IT_FOUND = ("missing", "union_tag_invalid", "extra_forbidden")


def explain(schema: type[BaseModel], error: ValidationError) -> str:
    """Every mistake on one line, the ways to read one value together."""
    lines: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    for each in error.errors():
        path, types = _walk(schema, each["loc"])
        key = ".".join(path)
        said = lines.setdefault(key, [])
        match each["type"]:
            case "extra_forbidden":
                text = _unknown(schema, path, types)
            case "union_tag_not_found":
                text = f"says no `kind`; use {', '.join(_kinds(schema, each['loc']))}"
            case _:
                text = _plain(each)
        if text not in said:
            said.append(text)
        if each["type"] not in _SAYS_WHAT_IT_FOUND and each["loc"]:
            shown = repr(each["input"])
            found[key] = f", found {shown if len(shown) <= _LONGEST else shown[:_LONGEST] + '...'}"
    inner = [key for key in lines if not any(other.startswith(f"{key}.") for other in lines)]
    return "; ".join(
        (f"{key}: " if key else "") + ", or ".join(lines[key]).replace(", or must", ", or") + found.get(key, "") for key in inner
    )


def _plain(error: Any) -> str:
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(context["error"])
    return _PLAIN[error["type"]].format(**context) if error["type"] in _PLAIN else error["msg"]


def _unknown(schema: type[BaseModel], path: Sequence[str], types: Sequence[Any]) -> str:
    """An unknown key, with the one of its section that looks most like it, or one of that name elsewhere."""
    *above, key = path
    known = [field.alias or name for each in types for model in _models(each) for name, field in model.model_fields.items()]
    near = get_close_matches(key, known, n=1, cutoff=_ALIKE)
    elsewhere = [each for each in _keys(schema) if each.rpartition(".")[2] == key]
    if ".".join(path) in elsewhere:
        return "no key of this `kind` (`delia --help` lists the keys)"
    meant = [".".join([*above, near[0]])] if near else elsewhere[:1]
    return f"unknown key; did you mean {meant[0]}?" if meant else "unknown key (`delia --help` lists the keys)"


def _kinds(schema: type[BaseModel], place: tuple[str | int, ...]) -> list[str]:
    """What ``kind`` may be at a place."""
    _, types = _walk(schema, (*place, "kind"))
    return [kind for each in types for part in _parts(each) if (kind := _kind(part))]


def _walk(schema: type[BaseModel], place: Sequence[str | int]) -> tuple[list[str], list[Any]]:
    """The dotted path of a mistake, without pydantic's names for the members of a union; and the types of the section it is in."""
    path: list[str] = []
    types: list[Any] = [schema]
    section = types
    for step in place:
        options = [part for each in types for part in _parts(each)]
        chosen = [part for part in options if _kind(part) == step]
        if chosen and len([part for part in options if _kind(part)]) > 1:
            types = section = chosen
            continue
        inside = [each for part in options for each in _inside(part, step)]
        if not inside and not any(isinstance(part, type) and issubclass(part, BaseModel) for part in options):
            continue  # a member of a union of plain types
        path.append(str(step))
        section, types = types, inside
    return path, section


def _inside(part: Any, step: str | int) -> Iterator[Any]:
    """The types of what stands at ``step`` of a value of that type."""
    if isinstance(part, type) and issubclass(part, BaseModel):
        yield from (field.annotation for name, field in part.model_fields.items() if step in (name, field.alias))
    elif isinstance(step, int) and get_origin(part) in (tuple, list):
        yield from (each for each in get_args(part) if each is not Ellipsis)
    elif get_origin(part) in (dict, Mapping):
        yield get_args(part)[1]


def _parts(annotation: Any) -> list[Any]:
    """The members of a union, or the type itself, without what ``Annotated`` says of it."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [part for member in get_args(annotation) for part in _parts(member)]
    return [annotation]


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]


def _kind(part: Any) -> str | None:
    field = part.model_fields.get("kind") if isinstance(part, type) and issubclass(part, BaseModel) else None
    return None if field is None else cast(str, get_args(field.annotation)[0])


def _keys(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a schema."""
    for name, field in schema.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        yield key
        for model in _models(field.annotation):
            yield from _keys(model, f"{key}.")
