"""The user's own task: chat ``messages`` in a JSONL or Parquet file, checked row by row."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from delia_ray.errors import UserError
from delia_ray.readers import BadRow, parsed_rows
from delia_ray.records import Message, TaskItem, row_id
from delia_ray.tasks.config import MessagesTask

_ROLES = ("system", "user", "assistant")
_SHOWN_CHARACTERS = 80


def messages_items(task: MessagesTask) -> dict[str, list[TaskItem]]:
    """``train``, ``dev`` (empty) and ``test`` items of the user's files.

    Raises:
        UserError: a file is missing, empty or of another format, or a row is not a conversation that ends with the assistant.
    """
    return {"train": _items(task, "train", task.train), "dev": [], "test": _items(task, "test", task.test)}


def _items(task: MessagesTask, split: str, file: Path) -> list[TaskItem]:
    items = [_item(task, split, index, where, row) for index, (where, row) in enumerate(read_rows(file, f"task.{split}"))]
    if not items:
        raise UserError(f"task.{split}: {file} is empty; give it at least one row with `messages`")
    return items


def _item(task: MessagesTask, split: str, index: int, where: str, row: dict[str, Any]) -> TaskItem:
    messages = check_messages(row.get("messages"), where)
    asked = messages[-2]["content"]
    if task.instruction is not None and task.instruction not in asked:
        raise UserError(
            f"{where}: the last user turn does not contain task.instruction={task.instruction!r}; set it to null or mend the row"
        )
    return {
        "example_id": row_id("messages", split, str(index), json.dumps(messages)),
        "group": "task",
        "messages": messages,
        "label": None,
        "instruction": task.instruction,
    }


def check_messages(value: object, where: str) -> list[Message]:
    """``value`` as a conversation.

    Raises:
        UserError: naming ``where``: it is no list of ``{role, content}``, a role is unknown, a content is empty, or it does not end
            with a user turn and the assistant's answer.
    """
    example = 'like [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
    if not isinstance(value, list):
        raise UserError(f"{where}: `messages` is {type(value).__name__}; it must be a list {example}")
    messages: list[Message] = []
    for index, message in enumerate(cast(list[Any], value)):
        spot = f"{where}: messages[{index}]"
        if not isinstance(message, dict):
            raise UserError(f"{spot} is {type(message).__name__}; it must be an object {example}")
        fields = cast(dict[str, Any], message)
        if fields.get("role") not in _ROLES:
            raise UserError(f"{spot}: role is {fields.get('role')!r}; it must be one of {', '.join(_ROLES)}")
        if problem := unusable_text(fields.get("content")):
            raise UserError(f"{spot}: content is {problem}")
        messages.append({"role": fields["role"], "content": fields["content"]})
    if [message["role"] for message in messages[-2:]] != ["user", "assistant"]:
        raise UserError(f"{where}: the conversation does not end with a user turn and the assistant's answer; end it {example}")
    return messages


def read_rows(file: Path, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row of a file with a name for it, such as ``task.train: rows.jsonl line 3``.

    Raises:
        UserError: the file cannot be read or is of another format, or a line is no row.
    """
    if file.suffix == ".csv":
        raise UserError(f"{key}: {file} ends in '.csv', whose cells hold no conversations; use .jsonl or .parquet")
    for where, row in parsed_rows(file, key):
        if isinstance(row, BadRow):
            raise UserError(f"{where}: {row.problem}; put one JSON object on each line")
        yield where, row


def unusable_text(value: object) -> str | None:
    """Why ``value`` is no text that a model can be shown, or None."""
    if not isinstance(value, str) or not value.strip():
        return f"{_shown(value)}; it must be a text that is not empty"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"{_shown(value)}; character {error.start + 1} is half of a surrogate pair, write the character itself"
    if "\0" in value:
        return f"{_shown(value)}; it holds a NUL character, take it out"
    return None


def _shown(value: object) -> str:
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def check_no_control_tokens(items: Iterable[TaskItem], control_tokens: Sequence[str]) -> None:
    """Refuse a conversation that would open or close turns of its own when it is rendered.

    Raises:
        UserError: naming the row and the token.
    """
    for item in items:
        for message in item["messages"]:
            for token in control_tokens:
                if token in message["content"]:
                    start = item["messages"][0]["content"][:_SHOWN_CHARACTERS]
                    raise UserError(
                        f"task: the row that starts {start!r} holds {token!r}, which the chat template uses itself; take it out of the text"
                    )
