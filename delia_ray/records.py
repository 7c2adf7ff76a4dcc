"""The rows that cross stage boundaries, each with the one Arrow schema it is stored under."""

import hashlib
from typing import NotRequired, TypedDict

import pyarrow as pa
from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of what a stage writes as JSON: frozen, closed to unknown keys, and free of NaN, which JSON cannot hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    content: str


class Query(TypedDict):
    """Something to ask the model."""

    query_id: str
    topic: str
    query: str
    reference: str | None
    """An answer the user gave with the query; METHOD's mode ``reference`` shows it to the model."""


class Exchange(TypedDict):
    """A query and the model's own answer to it."""

    exchange_id: str
    topic: str
    query: str
    answer: str
    prompt_tokens: int
    answer_tokens: int


class Reject(TypedDict):
    """A row that was given or generated and not kept."""

    row_id: str
    step: str
    """``task``, ``query``, ``answer`` or ``clean``."""
    reason: str
    text: str


class Example(TypedDict):
    """A conversation to learn from or be tested on; its last message is the assistant's target."""

    example_id: str
    group: str
    """``task`` or ``diverse``."""
    messages: list[Message]
    label: str | None
    """The gold label of a classification task."""


class EvalExample(Example):
    """An example to be tested on, with what it shares with others: scores of such items vary together."""

    wording: str | None
    """Of its instruction; null where the split has one wording, or each row has words of its own."""
    document: str | None
    """That it is a part of; null where there are none."""


class TaskItem(Example):
    """An example whose instruction may still be worded anew."""

    instruction: str | None
    """The part of the last user turn that asks; null where nothing may be changed."""
    document: NotRequired[str | None]
    """That it is a part of, where there are documents."""


class MixedExample(Example):
    """An example with its place in the first epoch."""

    order_key: int


_MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string(), nullable=False), pa.field("content", pa.string(), nullable=False)]))


def _required(*names: str) -> list[pa.Field]:
    return [pa.field(name, pa.string(), nullable=False) for name in names]


QUERY_KIND = "parquet:query/1"
QUERY_SCHEMA = pa.schema([*_required("query_id", "topic", "query"), pa.field("reference", pa.string())])
EXCHANGE_KIND = "parquet:exchange/1"
EXCHANGE_SCHEMA = pa.schema(
    [
        *_required("exchange_id", "topic", "query", "answer"),
        pa.field("prompt_tokens", pa.int64(), nullable=False),
        pa.field("answer_tokens", pa.int64(), nullable=False),
    ]
)
REJECT_SCHEMA = pa.schema(_required("row_id", "step", "reason", "text"))
EXAMPLES_KIND = "parquet:examples/2"
EXAMPLE_SCHEMA = pa.schema(
    [*_required("example_id", "group"), pa.field("messages", _MESSAGES, nullable=False), pa.field("label", pa.string())]
)
EVAL_SCHEMA = EXAMPLE_SCHEMA.append(pa.field("wording", pa.string())).append(pa.field("document", pa.string()))
"""Of the dev and the test split."""
TASK_KIND = "parquet:task/2"
TASK_SCHEMA = EXAMPLE_SCHEMA.append(pa.field("instruction", pa.string())).append(pa.field("document", pa.string()))
MIXED_KIND = "parquet:mixed/1"
MIXED_SCHEMA = EXAMPLE_SCHEMA.append(pa.field("order_key", pa.int64(), nullable=False))


def row_id(*parts: str) -> str:
    """16 hex digits naming a row by what it is made of: equal in every run and on every node."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def turn_of(index: int, count: int) -> int:
    """Which of ``count`` wordings row ``index`` takes: all in turn.

    Of an even number each round starts one further on. Labels alternate from row to row, and would otherwise meet half of the wordings
    each.
    """
    return (index + (index // count if count % 2 == 0 else 0)) % count


def keyed_int(seed: int, purpose: str, identifier: str) -> int:
    """A uniform 63-bit integer that depends on nothing but its arguments.

    Sorting by it is a seeded shuffle that no block layout can change; it also seeds the sampling of single rows.
    """
    digest = hashlib.blake2b(identifier.encode(), digest_size=8, salt=seed.to_bytes(8, "little", signed=True), person=purpose.encode()[:16])
    return int.from_bytes(digest.digest(), "little") >> 1
