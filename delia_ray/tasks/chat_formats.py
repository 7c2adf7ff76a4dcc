"""Parsers for public chat formats (OpenAI, ShareGPT, Alpaca, prompt and completion), and checks for unsupported fields."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from delia_ray.core.errors import UserError

_SHAREGPT_ROLES = {
    **{"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant"},
    **{"model": "assistant", "bot": "assistant", "system": "system"},
}
_SUPPORTED_FORMATS = (
    "give it `messages` (role and content), `conversations` (from and value), `instruction` and `output`, or `prompt` and `completion`"
)
_ROW_FIELDS = {
    **dict.fromkeys(("tools", "functions", "function_call", "tool_choice"), "tool calls are not trained on"),
    "documents": "documents are not shown to the model; put them into a turn",
    "chat_template_kwargs": "arguments of the chat template are not taken from rows",
    **dict.fromkeys(("chosen", "rejected"), "preferences are not trained on"),
}
_MESSAGE_FIELDS = {
    **dict.fromkeys(("tool_calls", "function_call", "tool_call_id"), "tool calls are not trained on"),
    **dict.fromkeys(("reasoning_content", "reasoning", "thinking"), "reasoning is not trained on; write the text to train on into content"),
    **dict.fromkeys(("train", "mask", "loss", "loss_mask"), "only a row's last answer is trained on, and it cannot select other turns"),
}
"""Reason why a row with the field is refused, by field."""


def parse_messages(row: Mapping[str, Any], location: str) -> Any:
    """Convert ``row`` to a list of messages, which ``check_messages`` validates.

    ShareGPT (``conversations`` of ``from`` and ``value``), Alpaca (``instruction``, ``input``, ``output``, ``system``, ``history``) and
    ``prompt`` with ``completion`` are converted one to one.

    Raises:
        UserError: the row has none of these formats, or a field that would change what is trained on; ``location`` names the row.
    """
    fields = {name: value for name, value in row.items() if value is not None}
    _refuse_fields(fields, _ROW_FIELDS, location)
    if fields.get("weight", 1) != 1:
        raise UserError(f"{location}: weight is {fields['weight']!r}, and rows are not weighted; repeat the row or take it out")
    for names, parse in _FORMATS:
        if all(name in fields for name in names):
            return parse(fields, location)
    columns = ", ".join(map(repr, row)) or "no columns"
    raise UserError(f"{location}: the row has {columns}; {_SUPPORTED_FORMATS}")


def check_message_fields(messages: list[dict[str, Any]], location: str) -> None:
    """Refuse message fields besides role and content that would change what is trained on, the unchanged last answer of a row.

    A ``name`` is not shown to the model. ``weight: 0`` on an earlier answer is accepted, since only the last answer is trained on.

    Raises:
        UserError: a field is not supported; the message names ``location`` and the index.
    """
    for index, message in enumerate(messages):
        message_location, fields = f"{location}: messages[{index}]", {name: value for name, value in message.items() if value is not None}
        if fields.get("role") in ("tool", "function"):
            raise UserError(f"{message_location}: role is {fields['role']!r}, and tool calls are not trained on; take the row out")
        if isinstance(fields.get("content"), list):
            raise UserError(f"{message_location}: content is a list of parts; write the text of the parts as one string")
        _refuse_fields(fields, _MESSAGE_FIELDS, message_location)
        if "weight" in fields:
            _check_weight(fields, message_location, is_last=index == len(messages) - 1)


def _check_weight(message: Mapping[str, Any], location: str, *, is_last: bool) -> None:
    """Refuse a weight other than 1 on the last message or other than 0 on earlier ones."""
    weight = message["weight"]
    if is_last and weight != 1:
        raise UserError(f"{location}: weight is {weight!r}, and this is the answer that is trained on; take the row out, or the weight")
    if not is_last and weight != 0:
        raise UserError(
            f"{location}: weight is {weight!r}, and only a row's last answer is trained on; make a row that ends with this turn, or "
            "take the weight out"
        )


def _refuse_fields(fields: Mapping[str, Any], refused: Mapping[str, str], location: str) -> None:
    """Refuse a field that ``refused`` names, unless it is empty."""
    for name, reason in refused.items():
        if name in fields and fields[name] not in ("", [], {}):
            raise UserError(f"{location}: found `{name}`, and {reason}; take the row out, or the field if it may be left out")


def _parse_openai(row: Mapping[str, Any], _location: str) -> Any:
    return row["messages"]


def _parse_sharegpt(row: Mapping[str, Any], location: str) -> Any:
    name = "conversations" if "conversations" in row else "conversation"
    turns: Any = row[name]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in cast(list[Any], turns)):
        raise UserError(f'{location}: `{name}` is {type(turns).__name__}; it must be a list like [{{"from": "human", "value": "..."}}]')
    return [*_make_system_turns(row), *(_parse_sharegpt_turn(turn, f"{location}: {name}[{index}]") for index, turn in enumerate(turns))]


def _parse_sharegpt_turn(turn: dict[str, Any], location: str) -> dict[str, Any]:
    if "from" not in turn:
        return turn
    if turn["from"] not in _SHAREGPT_ROLES:
        raise UserError(
            f"{location}: from is {turn['from']!r}; it must be one of {', '.join(_SHAREGPT_ROLES)}, and tool calls are not trained on"
        )
    others = {name: value for name, value in turn.items() if name not in ("from", "value")}
    return {**others, "role": _SHAREGPT_ROLES[turn["from"]], "content": turn.get("value")}


def _parse_alpaca(row: Mapping[str, Any], location: str) -> Any:
    history: Any = row.get("history") or []
    if not _are_pairs(history):
        raise UserError(f"{location}: `history` must be a list of pairs of a question and an answer; correct the row")
    earlier = [_make_turn(role, text) for pair in history for role, text in zip(("user", "assistant"), pair, strict=True)]
    question = f"{row['instruction']}\n\n{row['input']}" if row.get("input") else row["instruction"]
    return [*_make_system_turns(row), *earlier, _make_turn("user", question), _make_turn("assistant", row["output"])]


def _are_pairs(history: Any) -> bool:
    return isinstance(history, list) and all(
        isinstance(pair, list) and len(cast(list[Any], pair)) == 2 for pair in cast(list[Any], history)
    )


def _parse_completion(row: Mapping[str, Any], location: str) -> Any:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        return [*_make_system_turns(row), _make_turn("user", prompt), _make_turn("assistant", completion)]
    if isinstance(prompt, list) and isinstance(completion, list):
        return [*cast(list[Any], prompt), *cast(list[Any], completion)]
    types = f"{type(prompt).__name__} and {type(completion).__name__}"
    raise UserError(f"{location}: `prompt` and `completion` are {types}; make both texts, or both lists of messages")


def _make_system_turns(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_make_turn("system", row["system"])] if row.get("system") else []


def _make_turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


_FORMATS: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, Any], str], Any]], ...] = (
    (("messages",), _parse_openai),
    (("conversations",), _parse_sharegpt),
    (("conversation",), _parse_sharegpt),
    (("instruction", "output"), _parse_alpaca),
    (("prompt", "completion"), _parse_completion),
)
"""Fields that identify a format, and its parser; the first match is used."""
