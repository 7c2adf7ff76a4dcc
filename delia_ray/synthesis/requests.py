"""Generation requests and results: their fields, Arrow schemas and keys."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import pyarrow as pa

from delia_ray.core.fingerprint import to_canonical_json
from delia_ray.core.records import keyed_int

PADDING = -1
"""Key of a padding row, whose result is dropped; all other keys are non-negative."""


class GenerationRequest(TypedDict):
    """A prompt and its sampling parameters."""

    key: int
    """Hash of everything that determines the text: model, prompt, sampling parameters and seed."""
    row_id: str
    prompt: str
    """The rendered prompt with all its special tokens."""
    prompt_ids: list[int]
    """Token ids of ``prompt``; an engine that tokenized the text itself might add the beginning-of-text token again."""
    sampling: str
    """vLLM's sampling parameters as JSON, including ``seed`` and ``max_tokens``."""
    topic: str
    query: str
    """Copied to the result, as is ``topic``; the query, where the prompt asks for its answer."""


class GenerationResult(TypedDict):
    """The completion of a request, or the engine's error."""

    key: int
    row_id: str
    text: str
    finished: bool
    """Whether the model ended the text within ``max_tokens``."""
    prompt_tokens: int
    answer_tokens: int
    topic: str
    query: str
    error: str
    """Why the engine failed on this row; empty if it did not."""


def _schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, type_, nullable=False) for name, type_ in types.items()])


REQUEST_SCHEMA = _schema(
    key=pa.int64(), row_id=pa.string(), prompt=pa.string(), prompt_ids=pa.list_(pa.int32()), sampling=pa.string(), topic=pa.string(),
    query=pa.string(),
)  # fmt: skip
RESULT_SCHEMA = _schema(
    key=pa.int64(), row_id=pa.string(), text=pa.string(), finished=pa.bool_(), prompt_tokens=pa.int64(), answer_tokens=pa.int64(),
    topic=pa.string(), query=pa.string(), error=pa.string(),
)  # fmt: skip
FILTERED_SCHEMA = pa.schema([*RESULT_SCHEMA, *_schema(reason=pa.string(), scope=pa.string())])


def new_request(
    model: str, row_id: str, prompt: str, prompt_ids: Sequence[int], sampling: Mapping[str, Any], *, topic: str, query: str = ""
) -> GenerationRequest:
    """Build a request with its key.

    Args:
        model: fingerprint of the engine and model that complete the prompt.
        prompt_ids: token ids of ``prompt``.
    """
    sampling_json = to_canonical_json(sampling)
    key = keyed_int(0, "draw", "\0".join((model, row_id, prompt, sampling_json, topic, query)))
    return {"key": key, "row_id": row_id, "prompt": prompt, "prompt_ids": list(prompt_ids), "sampling": sampling_json, "topic": topic,
            "query": query}  # fmt: skip


def pad_requests(requests: pa.Table, multiple: int) -> pa.Table:
    """Pad ``requests`` to a multiple of ``multiple`` rows with requests for a single token, whose key is ``PADDING``.

    An engine that takes full batches would otherwise wait for the rest of a batch, which is not planned yet.
    """
    missing = -requests.num_rows % multiple
    if not requests.num_rows or not missing:
        return requests
    first = requests.slice(0, 1).to_pylist()[0]
    padding = {**first, "key": PADDING, "sampling": to_canonical_json({**json.loads(first["sampling"]), "max_tokens": 1})}
    return pa.concat_tables([requests, pa.Table.from_pylist([padding] * missing, schema=requests.schema)])


def copy_request_fields(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a ``GenerationResult`` shares with its ``GenerationRequest``."""
    return {name: request[name] for name in ("key", "row_id", "topic", "query")}
