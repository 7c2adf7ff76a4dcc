"""What pydantic found wrong with a config, in the words of its user: which key, what it must be, what stands there."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from functools import reduce
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
_SAYS_WHAT_IT_FOUND = ("missing", "union_tag_invalid", "extra_forbidden")


def explain(schema: type[BaseModel], given: Mapping[str, Any], error: ValidationError) -> str:
    """Every mistake in ``given`` on one line, the ways to read one value together."""
    said: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    own: set[str] = set()
    for each in error.errors():
        steps, section, types = _walk(schema, each["loc"])
        is_missing = each["type"] == "missing"
        path = _as_written(steps, given, is_missing)
        stands = _stands(given, path[:-1] if is_missing else path)
        value = _at(given, path) if stands and not is_missing else each["input"]
        match each["type"]:
            case "extra_forbidden":
                text = _unknown(schema, path, section)
            case "union_tag_not_found":
                text = f"says no `kind`; use {', '.join(_kinds(schema, each['loc']))}"
            case "value_error":
                path, text = _own_words(path, types, each)
            case "missing":
                path, text = [*path, *_first_required(types)], _plain(each)
            case _:
                text = _plain(each)
        key = written_key(path)
        if stands:
            own.add(key)
        if text not in said.setdefault(key, []):
            said[key].append(text)
        if path and _adds(each["type"], value, text):
            found[key] = _found(value)
    # A value that stands nowhere was taken over from another section, whose mistake is told there.
    keys = [key for key in said if key in own or not own]
    inner = [key for key in keys if not any(other.startswith((f"{key}.", f"{key}[")) for other in keys)]
    return "; ".join(
        (f"{key}: " if key else "") + ", or ".join(said[key]).replace(", or must", ", or") + found.get(key, "") for key in inner
    )


def explain_section(key: str, given: Mapping[str, Any], error: ValidationError) -> str:
    """What is wrong in a section that a library reads with models of its own, which know no more than their own keys."""
    each = error.errors()[0]
    place = next(_ends_with(given, each["loc"]), None)
    text = "unknown key; correct or remove it" if each["type"] == "extra_forbidden" else _plain(each)
    value = _found(each["input"]) if place is None or each["type"] not in _SAYS_WHAT_IT_FOUND else ""
    return f"{key}.{written_key(place or each['loc'])}: {text}{value}"


def written_key(path: Sequence[str | int]) -> str:
    """``mix.ratio``, ``sources[0].path``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _ends_with(given: Any, place: Sequence[str | int], above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places in ``given`` whose last steps are ``place``."""
    if _stands(given, place):
        yield (*above, *place)
    if isinstance(given, Mapping):
        for key, value in cast(Mapping[str, Any], given).items():
            yield from _ends_with(value, place, (*above, key))


def _as_written(path: Sequence[str | int], given: Any, is_missing: bool) -> list[str | int]:
    """``path`` without a step that nobody writes: a blend's ``sources[0].path`` is checked as ``sources[0].source.path``."""
    for kept in ([*path], *([*path[:at], *path[at + 1 :]] for at in range(len(path)))):
        if kept and _stands(given, kept[:-1] if is_missing else kept):
            return kept
    return [*path]


def _stands(given: Any, path: Sequence[str | int]) -> bool:
    """Whether something stands in ``given`` at ``path``."""
    if not path:
        return True
    step, *rest = path
    if isinstance(step, int) and isinstance(given, Sequence) and not isinstance(given, str):
        return step < len(cast(Sequence[Any], given)) and _stands(given[step], rest)
    return isinstance(given, Mapping) and step in given and _stands(given[step], rest)


def _at(given: Any, path: Sequence[str | int]) -> Any:
    return reduce(lambda value, step: value[step], path, given)


def _own_words(path: list[str | int], types: Sequence[Any], error: Any) -> tuple[list[str | int], str]:
    """What a validator of ours says; where it begins with a key of its section (``sources: two are ...``), that key's whole path."""
    text = str(error["ctx"]["error"])
    key, colon, rest = text.partition(": ")
    fields = {field.alias or name for each in types for model in _models(each) for name, field in model.model_fields.items()}
    return ([*path, key], rest) if path and colon and key in fields else (path, text)


def _first_required(types: Sequence[Any]) -> list[str]:
    """The key to begin with in a section that is missing: of ``run``, its ``name``."""
    models = _models(types[0]) if len(types) == 1 else []
    needed = [field.alias or name for model in models for name, field in model.model_fields.items() if field.is_required()]
    return needed[:1] if len(models) == 1 else []


def _adds(kind: str, value: Any, text: str) -> bool:
    """Whether the value is worth showing after the text."""
    if kind == "value_error":
        told = value != "" and re.search(rf"(?<!\w){re.escape(str(value))}(?!\w)", text)
        return not isinstance(value, Mapping) and not told
    return kind not in _SAYS_WHAT_IT_FOUND


def _found(value: Any) -> str:
    shown = value.isoformat() if isinstance(value, date) else repr(value)
    return f", found {shown if len(shown) <= _LONGEST else shown[:_LONGEST] + '...'}"


def _plain(error: Any) -> str:
    return _PLAIN[error["type"]].format(**error.get("ctx", {})) if error["type"] in _PLAIN else error["msg"]


def _unknown(schema: type[BaseModel], path: Sequence[str | int], types: Sequence[Any]) -> str:
    """An unknown key, with the one of its section that looks most like it, or one of that name elsewhere."""
    *above, last = path
    key = str(last)
    known = [field.alias or name for each in types for model in _models(each) for name, field in model.model_fields.items()]
    near = get_close_matches(key, known, n=1, cutoff=_ALIKE)
    elsewhere = [each for each in _keys(schema) if each.rpartition(".")[2] == key]
    if written_key(path) in elsewhere:
        return "no key of this `kind` (`delia --help` lists the keys)"
    meant = [written_key([*above, near[0]])] if near else elsewhere[:1]
    return f"unknown key; did you mean {meant[0]}?" if meant else "unknown key (`delia --help` lists the keys)"


def _kinds(schema: type[BaseModel], place: tuple[str | int, ...]) -> list[str]:
    """What ``kind`` may be at a place."""
    _, types, _ = _walk(schema, (*place, "kind"))
    return [kind for each in types for part in _parts(each) if (kind := _kind(part))]


def _walk(schema: type[BaseModel], place: Sequence[str | int]) -> tuple[list[str | int], list[Any], list[Any]]:
    """The path of a mistake, without pydantic's names for the members of a union; the types of the section it is in; and its own types."""
    path: list[str | int] = []
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
        path.append(step)
        section, types = types, inside
    return path, section, types


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
