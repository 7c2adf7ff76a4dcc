"""Prompts to continue and their continuations, and a folder that keeps every continuation by what it was drawn from."""

import hashlib
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from delia_ray.fingerprint import canonical_json
from delia_ray.records import keyed_int

Keys = NDArray[np.int64]


class Draw(TypedDict):
    """A prompt and how to continue it."""

    key: int
    """Names the row by all that decides its text: model, prompt, sampling and seed."""
    row_id: str
    prompt: str
    sampling: str
    """JSON of vLLM's sampling parameters, ``seed`` and ``max_tokens`` among them."""
    topic: str
    query: str
    """Carried through: what the row is about, and the query where the prompt asks for its answer."""


class Drawn(TypedDict):
    """What came back."""

    key: int
    row_id: str
    text: str
    finished: bool
    """Whether the model stopped by itself within ``max_tokens``."""
    prompt_tokens: int
    answer_tokens: int
    topic: str
    query: str
    error: str
    """Empty, or why the engine could not answer this row."""


def _schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, type_, nullable=False) for name, type_ in types.items()])


DRAW_SCHEMA = _schema(key=pa.int64(), row_id=pa.string(), prompt=pa.string(), sampling=pa.string(), topic=pa.string(), query=pa.string())
DRAWN_SCHEMA = _schema(
    key=pa.int64(), row_id=pa.string(), text=pa.string(), finished=pa.bool_(), prompt_tokens=pa.int64(), answer_tokens=pa.int64(),
    topic=pa.string(), query=pa.string(), error=pa.string(),
)  # fmt: skip
JUDGED_SCHEMA = pa.schema([*DRAWN_SCHEMA, *_schema(reason=pa.string(), scope=pa.string())])


def new_draw(model: str, row_id: str, prompt: str, sampling: Mapping[str, Any], *, topic: str, query: str = "") -> Draw:
    """A draw under its key.

    Args:
        model: fingerprint of what continues the prompt.
    """
    written = canonical_json(sampling)
    key = keyed_int(0, "draw", "\0".join((model, row_id, prompt, written, topic, query)))
    return {"key": key, "row_id": row_id, "prompt": prompt, "sampling": written, "topic": topic, "query": query}


def carried(draw: Mapping[str, Any]) -> dict[str, Any]:
    """What a ``Drawn`` has from its ``Draw``."""
    return {name: draw[name] for name in ("key", "row_id", "topic", "query")}


def contains(sorted_keys: Keys, keys: Keys) -> NDArray[np.bool_]:
    """Which of ``keys`` are among ``sorted_keys``."""
    if not len(sorted_keys):
        return np.zeros(len(keys), dtype=bool)
    places = np.searchsorted(sorted_keys, keys).clip(max=len(sorted_keys) - 1)
    return sorted_keys[places] == keys


def sorted_keys(files: Iterable[Path]) -> Keys:
    """The distinct keys of all rows in ``files``; 8 bytes a row."""
    parts = [pq.read_table(file, columns=["key"])["key"].to_numpy() for file in files]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)


class DrawStore:
    """Drawn rows in Parquet files. It only grows; several runs may share it, and any number of processes write to it.

    A file is there whole or not at all, and named by its rows, so that a task that is tried again writes the same file.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def add(self, rows: pa.Table) -> None:
        """Keep ``rows``, which have ``DRAWN_SCHEMA``."""
        if not rows.num_rows:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.blake2b(np.sort(rows["key"].to_numpy()).tobytes(), digest_size=12).hexdigest()
        scratch = self._folder / f".{name}.{uuid.uuid4().hex}"
        pq.write_table(rows.cast(DRAWN_SCHEMA), scratch)
        os.replace(scratch, self._folder / f"{name}.parquet")

    def files(self) -> list[Path]:
        """The files that are there whole."""
        return sorted(self._folder.glob("*.parquet"))
