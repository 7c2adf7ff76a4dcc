"""Prompts to continue and their continuations, and a folder that keeps every continuation by what it was drawn from."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from delia_ray.fingerprint import canonical_json
from delia_ray.records import keyed_int

Keys = NDArray[np.int64]
PADDING = -1
"""The key of a row that nobody wants; others are not negative."""


class Draw(TypedDict):
    """A prompt and how to continue it."""

    key: int
    """Names the row by all that decides its text: model, prompt, sampling and seed."""
    row_id: str
    prompt: str
    """Rendered, with all special tokens there are to be."""
    prompt_ids: list[int]
    """The same as the model sees it; an engine that encoded the text itself might begin it a second time."""
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


DRAW_SCHEMA = _schema(
    key=pa.int64(), row_id=pa.string(), prompt=pa.string(), prompt_ids=pa.list_(pa.int32()), sampling=pa.string(), topic=pa.string(),
    query=pa.string(),
)  # fmt: skip
DRAWN_SCHEMA = _schema(
    key=pa.int64(), row_id=pa.string(), text=pa.string(), finished=pa.bool_(), prompt_tokens=pa.int64(), answer_tokens=pa.int64(),
    topic=pa.string(), query=pa.string(), error=pa.string(),
)  # fmt: skip
JUDGED_SCHEMA = pa.schema([*DRAWN_SCHEMA, *_schema(reason=pa.string(), scope=pa.string())])


def new_draw(
    model: str, row_id: str, prompt: str, prompt_ids: Sequence[int], sampling: Mapping[str, Any], *, topic: str, query: str = ""
) -> Draw:
    """A draw under its key.

    Args:
        model: fingerprint of what continues the prompt.
        prompt_ids: token ids of ``prompt``.
    """
    written = canonical_json(sampling)
    key = keyed_int(0, "draw", "\0".join((model, row_id, prompt, written, topic, query)))
    ids = list(prompt_ids)
    return {"key": key, "row_id": row_id, "prompt": prompt, "prompt_ids": ids, "sampling": written, "topic": topic, "query": query}


def padded(draws: pa.Table, multiple: int) -> pa.Table:
    """``draws``, filled up to a multiple of so many rows with requests for a single token, under the key ``PADDING``.

    An engine that takes rows by the batch would otherwise wait for the rest of one that nobody has asked for yet.
    """
    short = -draws.num_rows % multiple
    if not draws.num_rows or not short:
        return draws
    first = draws.slice(0, 1).to_pylist()[0]
    filler = {**first, "key": PADDING, "sampling": canonical_json({**json.loads(first["sampling"]), "max_tokens": 1})}
    return pa.concat_tables([draws, pa.Table.from_pylist([filler] * short, schema=draws.schema)])


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


class DrawIndex:
    """Finds rows by key in stores that grow; 12 bytes a row. It looks for new files whenever it is asked."""

    def __init__(self, *stores: DrawStore):
        self._stores = stores
        self._files: list[Path] = []
        self._keys: Keys = np.empty(0, dtype=np.int64)
        self._places: NDArray[np.int32] = np.empty(0, dtype=np.int32)

    def missing(self, keys: Keys) -> Keys:
        """Those of ``keys`` that no store holds."""
        self._refresh()
        return keys[~contains(self._keys, keys)]

    def rows(self, keys: Keys, *columns: str) -> pa.Table:
        """The rows with those keys. A row that was drawn twice stands there twice."""
        self._refresh()
        places = np.unique(self._places[np.isin(self._keys, keys)])
        tables = [pq.read_table(self._files[place], columns=["key", *columns]) for place in places]
        found = pa.concat_tables([DRAWN_SCHEMA.empty_table().select(["key", *columns]), *tables])
        return found.filter(pa.array(np.isin(found["key"].to_numpy(), keys))).drop_columns(["key"])

    def _refresh(self) -> None:
        known = set(self._files)
        new = [file for store in self._stores for file in store.files() if file not in known]
        if not new:
            return
        parts = [sorted_keys([file]) for file in new]
        places = [np.full(len(part), place, dtype=np.int32) for place, part in enumerate(parts, len(self._files))]
        keys, places = np.concatenate([self._keys, *parts]), np.concatenate([self._places, *places])
        order = np.argsort(keys, kind="stable")
        self._keys, self._places = keys[order], places[order]
        self._files += new
