"""The user's own task: conversations in files of rows, checked row by row."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from delia_ray.errors import UserError
from delia_ray.readers import BadRow, data_files, parsed_rows
from delia_ray.records import Message, TaskItem, row_id
from delia_ray.tasks.chat_formats import check_message_fields, messages_of
from delia_ray.tasks.config import MessagesTask

logger = logging.getLogger(__name__)
_ROLES = ("system", "user", "assistant")
_SHOWN_CHARACTERS = 80


def messages_items(task: MessagesTask) -> dict[str, list[TaskItem]]:
    """``train``, ``dev`` (empty) and ``test`` items of the user's files.

    Raises:
        UserError: a file is missing, empty or of another format, or a row is not a conversation that ends with the assistant.
    """
    items = {"train": _items(task, "train", task.train), "dev": list[TaskItem](), "test": _items(task, "test", task.test)}
    if task.token is not None:
        _check_token(task, task.token, items)
    return items


def _check_token(task: MessagesTask, token: str, items: Mapping[str, Sequence[TaskItem]]) -> None:
    using = {split for split, rows in items.items() if any(token in turn["content"] for row in rows for turn in row["messages"])}
    if not using:
        raise UserError(f"task.token: {token!r} stands in no row of {task.train} or {task.test}; correct it, or set task.token=null")
    if "train" not in using:
        raise UserError(f"task.token: {token!r} stands in rows of {task.test} and in none of {task.train}; put it into rows to learn from")
    if "test" not in using:
        logger.warning(
            "task.token: %r stands in rows of %s and in none of %s: no score will tell how it is used", token, task.train, task.test
        )


def _items(task: MessagesTask, split: str, file: Path) -> list[TaskItem]:
    items = [_item(task, split, index, where, row) for index, (where, row) in enumerate(read_rows(file, f"task.{split}"))]
    if not items:
        raise UserError(f"task.{split}: {file} is empty; give it at least one conversation")
    return items


def _item(task: MessagesTask, split: str, index: int, where: str, row: dict[str, Any]) -> TaskItem:
    messages = check_messages(messages_of(row, where), where)
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


def check_all_learnt(task: MessagesTask) -> None:
    """Refuse rows that leave an earlier answer out, for a run that learns whole conversations.

    Raises:
        UserError: naming the row.
    """
    for where, row in read_rows(task.train, "task.train"):
        for index, message in enumerate(messages_of(row, where)):
            if message.get("weight") == 0:
                raise UserError(
                    f"{where}: messages[{index}]: weight is 0, and finetune.learn=conversation learns every turn; "
                    "set finetune.learn=answer, or take the row out"
                )


def check_messages(value: object, where: str) -> list[Message]:
    """``value`` as a conversation.

    Raises:
        UserError: naming ``where``: it is no list of ``{role, content}``, a role is unknown, a content is empty, a message has a
            field that would change what is learnt, or it does not end with a user turn and the assistant's answer.
    """
    example = 'like [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
    if not isinstance(value, list):
        raise UserError(f"{where}: `messages` is {type(value).__name__}; it must be a list {example}")
    messages: list[Message] = []
    given = cast(list[Any], value)
    for index, message in enumerate(given):
        if not isinstance(message, dict):
            raise UserError(f"{where}: messages[{index}] is {type(message).__name__}; it must be an object {example}")
    check_message_fields(given, where)
    for index, fields in enumerate(given):
        spot = f"{where}: messages[{index}]"
        if fields.get("role") not in _ROLES:
            raise UserError(f"{spot}: role is {fields.get('role')!r}; it must be one of {', '.join(_ROLES)}")
        if problem := unusable_text(fields.get("content")):
            raise UserError(f"{spot}: content is {problem}")
        messages.append({"role": fields["role"], "content": fields["content"]})
    if [message["role"] for message in messages[-2:]] != ["user", "assistant"]:
        raise UserError(f"{where}: the conversation does not end with a user turn and the assistant's answer; end it {example}")
    return messages


def read_rows(file: Path, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row of a file or of a folder's files with a name for it, such as ``task.train: rows.jsonl line 3``.

    Raises:
        UserError: a file cannot be read or is of another format, or a line is no row.
    """
    for each in data_files(file, key):
        for where, row in parsed_rows(each, key):
            if isinstance(row, BadRow):
                raise UserError(f"{where}: {row.problem}; mend the row or take it out")
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


def check_no_control_tokens(items: Iterable[TaskItem], control: Callable[[str], str | None]) -> None:
    """Refuse a conversation that would open or close turns of its own when it is rendered.

    Args:
        control: finds a token in a text that the chat template uses itself.

    Raises:
        UserError: naming the row and the token.
    """
    for item in items:
        for message in item["messages"]:
            if token := control(message["content"]):
                start = item["messages"][0]["content"][:_SHOWN_CHARACTERS]
                spelt = "" if token in message["content"] else " in another spelling"
                raise UserError(
                    f"task: the row that starts {start!r} holds {token!r}{spelt}, which the chat template uses itself; "
                    "take it out of the text"
                )
