"""Row types that stages exchange, each with its Arrow schema, and the hashes that identify and order rows."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import NotRequired, TypedDict

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from delia_ray.core.storage.objects import list_files
from delia_ray.core.storage.tables import read_table


class Record(BaseModel):
    """Base class of JSON results: frozen, without extra keys, and without NaN or infinity, which JSON cannot represent."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, revalidate_instances="always"
    )


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    content: str


class Query(TypedDict):
    """A query for the model."""

    query_id: str
    topic: str
    query: str
    reference: str | None
    """A reference answer from the user's file; mode ``reference`` shows it to the model (docs/method.md)."""


class Exchange(TypedDict):
    """A query and the model's answer to it."""

    exchange_id: str
    topic: str
    query: str
    answer: str
    prompt_tokens: int
    answer_tokens: int


class Reject(TypedDict):
    """An input or generated row that was rejected, with the reason."""

    row_id: str
    step: str
    """``task``, ``query``, ``answer`` or ``clean``."""
    reason: str
    text: str


class Example(TypedDict):
    """A conversation to train or evaluate on; its last message is the assistant's target."""

    example_id: str
    group: str
    """``task`` or ``diverse``."""
    messages: list[Message]
    label: str | None
    """The gold label of a classification task."""


class EvalExample(Example):
    """An example to evaluate on, with the wording and document it shares with others; scores of such items are correlated."""

    wording: str | None
    """Wording of its instruction; None where the split has one wording or each row has its own."""
    document: str | None
    """Document that it is part of; None where there are no documents."""


class TaskItem(Example):
    """A task example whose instruction can still be rewritten."""

    instruction: str | None
    """The instruction within the last user turn; None where nothing can be rewritten."""
    document: NotRequired[str | None]
    """Document that it is part of, where there are documents."""


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
"""Schema of the dev and test splits."""
TASK_KIND = "parquet:task/2"
TASK_SCHEMA = EXAMPLE_SCHEMA.append(pa.field("instruction", pa.string())).append(pa.field("document", pa.string()))
MIXED_KIND = "parquet:mixed/1"
MIXED_SCHEMA = EXAMPLE_SCHEMA.append(pa.field("order_key", pa.int64(), nullable=False))


def make_row_id(*parts: str) -> str:
    """Hash the parts of a row into an id of 16 hex digits, equal in every run and on every node."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def assign_wording(index: int, count: int) -> int:
    """Assign row ``index`` one of ``count`` wordings, round-robin.

    For an even ``count`` each round is shifted by one. Labels alternate from row to row, and each label would otherwise get only half of
    the wordings.
    """
    return (index + (index // count if count % 2 == 0 else 0)) % count


def keyed_int(seed: int, purpose: str, identifier: str) -> int:
    """Hash the arguments into a uniform 63-bit integer.

    Sorting by it is a seeded shuffle that does not depend on the block layout; it also seeds the sampling of single rows.
    """
    digest = hashlib.blake2b(identifier.encode(), digest_size=8, salt=seed.to_bytes(8, "little", signed=True), person=purpose.encode()[:16])
    return int.from_bytes(digest.digest(), "little") >> 1


def count_reasons(rejects: Path) -> Counter[str]:
    """Count the rejects of a folder by reason, without the row or the message that a reason names."""
    reasons: Counter[str] = Counter()
    for file in list_files(rejects, "*.parquet"):
        reasons.update(map(_generalize_reason, read_table(file, columns=["reason"])["reason"].to_pylist()))
    return reasons


def _generalize_reason(reason: str) -> str:
    for separator in (" of ", ": ", " as "):
        reason = reason.partition(separator)[0]
    return reason
