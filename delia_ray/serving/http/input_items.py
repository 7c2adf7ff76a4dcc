"""Checks of the items of ``input`` in a request to ``/v1/responses``."""

from collections.abc import Mapping
from typing import Any

from delia_ray.serving.http.errors import ApiError

_KINDS = ("message", "function_call", "function_call_output", "reasoning")


def check_input_items(body: Mapping[str, Any]) -> None:
    """Refuse items of which vLLM makes no message: it knows OpenAI's others, but fails as it renders the prompt.

    Raises:
        ApiError: there is one.
    """
    items: Any = body.get("input")
    for number, item in enumerate[Any](items if isinstance(items, list) else ()):
        if isinstance(item, Mapping) and (fault := _find_fault(item)):
            raise ApiError(400, f"input[{number}]: {fault}", param=f"input[{number}]")


def _find_fault(item: Mapping[str, Any]) -> str | None:
    kind = item.get("type") or "message"
    if kind not in _KINDS:
        return f"found an item of type {str(kind)[:50]}; send items of type {', '.join(_KINDS)}"
    if kind == "message" and not isinstance(item.get("role"), str):
        return "the message has no role"
    content: Any = item.get("content")
    if kind == "message" and item["role"] == "assistant" and isinstance(content, list) and not _begins_with_text(content):
        return "what the assistant said does not begin with a text"
    if kind == "function_call_output" and not isinstance(item.get("output"), str):
        return "what the function gave is no text"
    return None


def _begins_with_text(content: list[Any]) -> bool:
    return bool(content) and isinstance(content[0], Mapping) and isinstance(content[0].get("text"), str)
