"""The user's own task: conversations read from files and validated row by row."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from delia_ray.core.errors import UserError
from delia_ray.core.records import Message, TaskItem, make_row_id
from delia_ray.tasks.chat_formats import check_message_fields, parse_messages
from delia_ray.tasks.config import MessagesTask
from delia_ray.tasks.readers import BadRow, find_data_files, parse_rows

logger = logging.getLogger(__name__)
_ROLES = ("system", "user", "assistant")
_SHOWN_CHARACTERS = 80


def load_messages_items(task: MessagesTask) -> dict[str, list[TaskItem]]:
    """Load the ``train``, ``dev`` (empty) and ``test`` items of the user's files.

    Raises:
        UserError: a file is missing, empty or in an unsupported format, or a row is not a conversation that ends with the assistant.
    """
    items = {"train": _load_split(task, "train", task.train), "dev": list[TaskItem](), "test": _load_split(task, "test", task.test)}
    if task.token is not None:
        _check_token(task, task.token, items)
    return items


def _check_token(task: MessagesTask, token: str, items: Mapping[str, Sequence[TaskItem]]) -> None:
    """Refuse a new token that no training row contains; warn if no test row does."""
    splits = {split for split, rows in items.items() if any(token in turn["content"] for row in rows for turn in row["messages"])}
    if not splits:
        raise UserError(f"task.token: {token!r} occurs in no row of {task.train} or {task.test}; correct it, or set task.token=null")
    if "train" not in splits:
        raise UserError(f"task.token: {token!r} occurs in rows of {task.test} and in none of {task.train}; put it into training rows")
    if "test" not in splits:
        logger.warning("task.token: %r occurs in rows of %s and in none of %s: no score will measure its use", token, task.train, task.test)


def _load_split(task: MessagesTask, split: str, file: Path) -> list[TaskItem]:
    """Load the items of a split; refuse an empty file."""
    items = [_build_item(task, split, index, location, row) for index, (location, row) in enumerate(read_rows(file, f"task.{split}"))]
    if not items:
        raise UserError(f"task.{split}: {file} is empty; give it at least one conversation")
    return items


def _build_item(task: MessagesTask, split: str, index: int, location: str, row: dict[str, Any]) -> TaskItem:
    messages = check_messages(parse_messages(row, location), location)
    question = messages[-2]["content"]
    if task.instruction is not None and task.instruction not in question:
        raise UserError(
            f"{location}: the last user turn does not contain task.instruction={task.instruction!r}; set it to null or correct the row"
        )
    return {
        "example_id": make_row_id("messages", split, str(index), json.dumps(messages)),
        "group": "task",
        "messages": messages,
        "label": None,
        "instruction": task.instruction,
    }


def check_all_answers_trained(task: MessagesTask) -> None:
    """Refuse rows that exclude an earlier answer with ``weight: 0``, for a run that trains on whole conversations.

    Raises:
        UserError: a row has such an answer; the message names the row.
    """
    for location, row in read_rows(task.train, "task.train"):
        for index, message in enumerate(parse_messages(row, location)):
            if message.get("weight") == 0:
                raise UserError(
                    f"{location}: messages[{index}]: weight is 0, and finetune.train_on=conversation trains on every turn; "
                    "set finetune.train_on=answer, or take the row out"
                )


def check_messages(value: object, location: str) -> list[Message]:
    """Validate ``value`` as a conversation.

    Raises:
        UserError: it is not a list of ``{role, content}``, a role is unknown, a content is empty, a message has a field that would
            change what is trained on, or it does not end with a user turn and the assistant's answer; the message names ``location``.
    """
    example = 'like [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
    if not isinstance(value, list):
        raise UserError(f"{location}: `messages` is {type(value).__name__}; it must be a list {example}")
    messages: list[Message] = []
    elements = cast(list[Any], value)
    for index, message in enumerate(elements):
        if not isinstance(message, dict):
            raise UserError(f"{location}: messages[{index}] is {type(message).__name__}; it must be an object {example}")
    check_message_fields(elements, location)
    for index, fields in enumerate(elements):
        message_location = f"{location}: messages[{index}]"
        if fields.get("role") not in _ROLES:
            raise UserError(f"{message_location}: role is {fields.get('role')!r}; it must be one of {', '.join(_ROLES)}")
        if problem := find_text_problem(fields.get("content")):
            raise UserError(f"{message_location}: content is {problem}")
        messages.append({"role": fields["role"], "content": fields["content"]})
    if [message["role"] for message in messages[-2:]] != ["user", "assistant"]:
        raise UserError(f"{location}: the conversation does not end with a user turn and the assistant's answer; end it {example}")
    return messages


def read_rows(file: Path, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the rows of a file or of a folder's files, each with its location, such as ``task.train: rows.jsonl line 3``.

    Raises:
        UserError: a file cannot be read or is in an unsupported format, or a line is not a row.
    """
    for each in find_data_files(file, key):
        for location, row in parse_rows(each, key):
            if isinstance(row, BadRow):
                raise UserError(f"{location}: {row.problem}; correct the row or take it out")
            yield location, row


def find_text_problem(value: object) -> str | None:
    """Describe why ``value`` is not a text that can be tokenized, or return None."""
    if not isinstance(value, str) or not value.strip():
        return f"{_format_value(value)}; it must be a text that is not empty"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"{_format_value(value)}; character {error.start + 1} is half of a surrogate pair, write the character itself"
    if "\0" in value:
        return f"{_format_value(value)}; it holds a NUL character, take it out"
    return None


def _format_value(value: object) -> str:
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def check_no_control_tokens(items: Iterable[TaskItem], control: Callable[[str], str | None]) -> None:
    """Refuse a conversation whose text contains control tokens, which would open or close turns when it is rendered.

    Args:
        control: function that returns the first control token of the chat template in a text, or None.

    Raises:
        UserError: a text has a control token; the message names the row and the token.
    """
    for item in items:
        for message in item["messages"]:
            if token := control(message["content"]):
                start = item["messages"][0]["content"][:_SHOWN_CHARACTERS]
                spelling = "" if token in message["content"] else " in another spelling"
                raise UserError(
                    f"task: the row that starts {start!r} holds {token!r}{spelling}, which the chat template uses itself; "
                    "take it out of the text"
                )
