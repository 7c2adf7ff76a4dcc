"""Checks of a request's body that hold for every model."""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from delia_ray.placement.access import Access
from delia_ray.serving.http.errors import ApiError

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_TOKEN_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def parse_body(body: bytes, content_type: str) -> Mapping[str, Any]:
    """Parse a JSON object.

    Raises:
        ApiError: it is none, or holds what no tokenizer takes.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, f"content-type: found {kind or 'none'}; send application/json")
    if not body.strip():
        raise ApiError(400, "the body is empty; send a JSON object")
    try:
        text = body.decode()
        parsed: Any = json.loads(text, parse_constant=_refuse_constant)
        if _SURROGATE.search(text):
            json.dumps(parsed, ensure_ascii=False).encode()  # half of a surrogate pair is no character
    except UnicodeEncodeError:
        raise ApiError(400, "the body holds half of a surrogate pair, which is no character; send whole characters") from None
    except (ValueError, RecursionError) as error:  # also of bytes that are no UTF-8, and of numbers of thousands of digits
        raise ApiError(400, f"the body is no JSON that can be read ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(parsed, dict):
        raise ApiError(400, f"the body is JSON of type {type(parsed).__name__}; send an object")
    return parsed  # pyright: ignore[reportUnknownVariableType]


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def get_model(body: Mapping[str, Any]) -> str | None:
    """Return the name of the model that a body asks for, or None.

    Raises:
        ApiError: it is no text.
    """
    name = body.get("model")
    if name is not None and not isinstance(name, str):
        raise ApiError(400, f"model: found {type(name).__name__}; send the name of a model", param="model")
    return name


def check_limits(body: Mapping[str, Any], access: Access) -> None:
    """Refuse a request for more tokens or answers than ``access`` lets one ask for.

    Raises:
        ApiError: it asks for more, or not with a whole number.
    """
    for name in _TOKEN_LIMITS:
        value = _get_count(body, name)
        if access.max_tokens is not None and value > access.max_tokens:
            raise ApiError(400, f"{name}: found {value}, and {access.max_tokens} is the most here", param=name)
    choices = count_prompts(body) * max(1, _get_count(body, "n"))
    if choices > access.max_choices:
        raise ApiError(400, f"n: prompts times n is {choices}, and {access.max_choices} is the most here", param="n")


def count_prompts(body: Mapping[str, Any]) -> int:
    """Count the prompts of a completion request; other requests have one."""
    prompt: Any = body.get("prompt")
    if not isinstance(prompt, list) or not prompt or isinstance(prompt[0], int):
        return 1
    return len(prompt)  # pyright: ignore[reportUnknownArgumentType]


def _get_count(body: Mapping[str, Any], name: str) -> int:
    """Return a number; 0 if there is none. vLLM would also take text and fractions for one."""
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ApiError(400, f"{name}: found {type(value).__name__}; send a whole number", param=name)
    return value or 0


def check_schemas(body: Mapping[str, Any]) -> None:
    """Refuse a JSON Schema that holds only if it holds: nothing fulfils it, and an engine fails at the first token.

    Raises:
        ApiError: there is one.
    """
    found = {"response_format": ("json_schema", "schema"), "structured_outputs": ("json",), "text": ("format", "schema")}
    for name, path in found.items():
        schema: Any = body.get(name)
        for key in path:
            schema = schema.get(key) if isinstance(schema, Mapping) else None
        if _requires_itself(schema):
            raise ApiError(400, f"{name}: its schema refers to itself and asks for nothing else, so that nothing fulfils it", param=name)


def _requires_itself(root: Any) -> bool:
    """Whether a part of a schema holds only if it holds; each part is looked at once, however many references name it."""
    waiting, entered, left = [(root, False)], set[int](), set[int]()
    while waiting:
        schema, is_done = waiting.pop()
        if is_done:
            left.add(id(schema))
        elif id(schema) in entered:
            if id(schema) not in left:
                return True
        elif isinstance(schema, Mapping):
            entered.add(id(schema))
            waiting += [(schema, True), *((part, False) for part in _list_required(root, schema))]
    return False


def _list_required(root: Any, schema: Mapping[str, Any]) -> list[Any]:
    """List the schemas that must hold if ``schema`` does: alternatives need not."""
    found: list[Any] = []
    if isinstance(reference := schema.get("$ref"), str):
        found.append(_resolve(root, reference))
    for name in ("allOf", "anyOf", "oneOf"):
        parts: Any = schema.get(name)
        if isinstance(parts, list) and (name == "allOf" or len(parts) == 1):  # pyright: ignore[reportUnknownArgumentType]
            found += parts
    return found


def _resolve(root: Any, reference: str) -> Any:
    """Find what a reference within the same schema names; None if it names nothing there."""
    if reference != "#" and not reference.startswith("#/"):
        return None
    found = root
    for part in reference.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
