"""Rows of the formats that public chat data has, as ``messages``; and what of them would change what is learnt, and is not supported."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from delia_ray.errors import UserError

_SHAREGPT_ROLES = {
    **{"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant"},
    **{"model": "assistant", "bot": "assistant", "system": "system"},
}
_WAY_OUT = (
    "give it `messages` (role and content), `conversations` (from and value), `instruction` and `output`, or `prompt` and `completion`"
)
_ROW_FIELDS = {
    **dict.fromkeys(("tools", "functions", "function_call", "tool_choice"), "tool calls are not learnt"),
    "documents": "documents are not shown to the model; put them into a turn",
    "chat_template_kwargs": "arguments of the chat template are not taken from rows",
    **dict.fromkeys(("chosen", "rejected"), "preferences are not learnt"),
}
_MESSAGE_FIELDS = {
    **dict.fromkeys(("tool_calls", "function_call", "tool_call_id"), "tool calls are not learnt"),
    **dict.fromkeys(("reasoning_content", "reasoning", "thinking"), "reasoning is not learnt; write what is to be learnt into content"),
    **dict.fromkeys(("train", "mask", "loss", "loss_mask"), "a row's last answer is learnt, and no other turn is chosen by it"),
}
"""Field -> why a row that has it cannot be used."""


def messages_of(row: Mapping[str, Any], where: str) -> Any:
    """The conversation of ``row``, as far as its format tells; whether it is one is for ``check_messages``.

    ShareGPT (``conversations`` of ``from`` and ``value``), Alpaca (``instruction``, ``input``, ``output``, ``system``, ``history``) and
    ``prompt`` with ``completion`` map one to one.

    Raises:
        UserError: naming ``where``: the row is of no such format, or has a field that changes what should be learnt.
    """
    given = {name: value for name, value in row.items() if value is not None}
    _refuse_fields(given, _ROW_FIELDS, where)
    if given.get("weight", 1) != 1:
        raise UserError(f"{where}: weight is {given['weight']!r}, and rows are not weighted; repeat the row or take it out")
    for names, read in _FORMATS:
        if all(name in given for name in names):
            return read(given, where)
    columns = ", ".join(map(repr, row)) or "no columns"
    raise UserError(f"{where}: the row has {columns}; {_WAY_OUT}")


def check_message_fields(messages: list[dict[str, Any]], where: str) -> None:
    """Refuse what a message says beside role and content that would change what is learnt: a row's last answer, as it stands.

    A ``name`` is not shown to the model. ``weight: 0`` says of an earlier answer what holds anyway.

    Raises:
        UserError: naming ``where`` and the message.
    """
    for index, message in enumerate(messages):
        spot, given = f"{where}: messages[{index}]", {name: value for name, value in message.items() if value is not None}
        if given.get("role") in ("tool", "function"):
            raise UserError(f"{spot}: role is {given['role']!r}, and tool calls are not learnt; take the row out")
        if isinstance(given.get("content"), list):
            raise UserError(f"{spot}: content is a list of parts; write the text of the parts as one string")
        _refuse_fields(given, _MESSAGE_FIELDS, spot)
        if "weight" in given:
            _check_weight(given, spot, is_last=index == len(messages) - 1)


def _check_weight(message: Mapping[str, Any], spot: str, *, is_last: bool) -> None:
    weight = message["weight"]
    if is_last and weight != 1:
        raise UserError(f"{spot}: weight is {weight!r}, and this is the answer that is learnt; take the row out, or the weight")
    if not is_last and weight != 0:
        raise UserError(
            f"{spot}: weight is {weight!r}, and only a row's last answer is learnt; make a row that ends with this turn, or take the "
            "weight out"
        )


def _refuse_fields(given: Mapping[str, Any], fields: Mapping[str, str], where: str) -> None:
    for name, reason in fields.items():
        if name in given and given[name] not in ("", [], {}):
            raise UserError(f"{where}: found `{name}`, and {reason}; take the row out, or the field if it may be left out")


def _chat(row: Mapping[str, Any], _where: str) -> Any:
    return row["messages"]


def _sharegpt(row: Mapping[str, Any], where: str) -> Any:
    name = "conversations" if "conversations" in row else "conversation"
    turns: Any = row[name]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in cast(list[Any], turns)):
        raise UserError(f'{where}: `{name}` is {type(turns).__name__}; it must be a list like [{{"from": "human", "value": "..."}}]')
    return [*_system_turn(row), *(_sharegpt_turn(turn, f"{where}: {name}[{index}]") for index, turn in enumerate(turns))]


def _sharegpt_turn(turn: dict[str, Any], spot: str) -> dict[str, Any]:
    if "from" not in turn:
        return turn
    if turn["from"] not in _SHAREGPT_ROLES:
        raise UserError(f"{spot}: from is {turn['from']!r}; it must be one of {', '.join(_SHAREGPT_ROLES)}, and tool calls are not learnt")
    others = {name: value for name, value in turn.items() if name not in ("from", "value")}
    return {**others, "role": _SHAREGPT_ROLES[turn["from"]], "content": turn.get("value")}


def _alpaca(row: Mapping[str, Any], where: str) -> Any:
    history: Any = row.get("history") or []
    if not _are_pairs(history):
        raise UserError(f"{where}: `history` must be a list of pairs of a question and an answer; mend the row")
    earlier = [_turn(role, text) for pair in history for role, text in zip(("user", "assistant"), pair, strict=True)]
    asked = f"{row['instruction']}\n\n{row['input']}" if row.get("input") else row["instruction"]
    return [*_system_turn(row), *earlier, _turn("user", asked), _turn("assistant", row["output"])]


def _are_pairs(history: Any) -> bool:
    return isinstance(history, list) and all(
        isinstance(pair, list) and len(cast(list[Any], pair)) == 2 for pair in cast(list[Any], history)
    )


def _completion(row: Mapping[str, Any], where: str) -> Any:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        return [*_system_turn(row), _turn("user", prompt), _turn("assistant", completion)]
    if isinstance(prompt, list) and isinstance(completion, list):
        return [*cast(list[Any], prompt), *cast(list[Any], completion)]
    found = f"{type(prompt).__name__} and {type(completion).__name__}"
    raise UserError(f"{where}: `prompt` and `completion` are {found}; make both texts, or both lists of messages")


def _system_turn(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_turn("system", row["system"])] if row.get("system") else []


def _turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


_FORMATS: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, Any], str], Any]], ...] = (
    (("messages",), _chat),
    (("conversations",), _sharegpt),
    (("conversation",), _sharegpt),
    (("instruction", "output"), _alpaca),
    (("prompt", "completion"), _completion),
)
"""The fields that tell a format, and what reads it; the first that fits."""
