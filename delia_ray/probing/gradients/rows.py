"""Choice of the rows that the probe examines, by their ids and a seed."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq

from delia_ray.core.artifacts import Adopted, Artifact
from delia_ray.core.errors import UserError
from delia_ray.core.records import Example, Exchange, Query, keyed_int
from delia_ray.core.storage.tables import open_dataset
from delia_ray.evaluation.kl_divergence import Conversation
from delia_ray.models import load_tokenizer
from delia_ray.probing.config import ProbeConfig
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.synthesis.query_config import Columns
from delia_ray.synthesis.sources.user_files import locate_local_rows
from delia_ray.synthesis.sources.user_rows import filter_queries

_KEY = "probe.foreign"
_MIN_ROWS = 4
_MAX_UNUSABLE = 0.2
"""Maximal fraction of a file's rows that may be unusable."""


@dataclass(frozen=True)
class ProbeRows:
    """The rows of the probe: conversations whose last message is the target."""

    queries: list[str]
    """Queries that the model answers at temperature 1."""
    foreign: list[Example]
    """The same queries in the same order, with foreign answers."""
    pool: list[Example]
    """Diverse rows as they are trained on; the same queries, unless foreign answers come from a file."""
    task: list[Example]
    held_out: list[Conversation]
    """Diverse rows that no arm was trained on."""


def check_probe(config: ProbeConfig, pool: Artifact | None, task: Artifact, model: Adopted) -> Artifact:
    """Refuse a run that cannot be probed, before anything else is built, and return the pool.

    Raises:
        UserError: no arm takes diverse rows, there are too few of them or of the task's rows, or the file of foreign answers is not usable.
    """
    if pool is None:
        raise UserError("arms: none takes diverse rows, so there are no gradients of diverse rows to probe; give one a ratio above 0")
    if (diverse_rows := int(pool.manifest.counts["rows"])) < _MIN_ROWS:
        raise UserError(
            f"probe.rows: the pool holds {diverse_rows} diverse rows, and the probe needs {_MIN_ROWS}; raise synthesize.queries.rows"
        )
    if (task_rows := int(task.manifest.counts["train"])) < _MIN_ROWS:
        raise UserError(f"probe.rows: the task has {task_rows} training rows, and the probe needs {_MIN_ROWS}; add some")
    if config.foreign is not None:
        read_foreign(config.foreign, model.path)
    return pool


def adopt_foreign(file: Path) -> Adopted:
    """Adopt the user's file of foreign answers as an input, identified by the hash of its bytes."""
    return locate_local_rows(file, Columns(), _KEY)[1]


def read_foreign(file: Path, model: Path) -> list[Query]:
    """Read the rows of ``file`` that have a query and a reference, both usable with the model's chat template.

    Raises:
        UserError: there are fewer than four, or the file cannot be read.
    """
    rows, _ = locate_local_rows(file, Columns(), _KEY)
    results = filter_queries(rows, control_tokens(load_tokenizer(model)), _MAX_UNUSABLE)
    queries = [query for query in (cast(Query, row) for kind, row in results if kind == "kept") if query["reference"]]
    if len(queries) < _MIN_ROWS:
        raise UserError(
            f"{_KEY}: {file} has {len(queries)} rows with a `query` and a `reference`, and the probe needs {_MIN_ROWS}; add some"
        )
    return queries


def choose_rows(config: ProbeConfig, pool: Artifact, rewritten: Artifact, mixtures: Sequence[Artifact], model: Path) -> ProbeRows:
    """Choose the rows of each kind with the smallest keyed hashes.

    Args:
        config: number of rows, and the seed.
        pool: the diverse rows.
        rewritten: the task's rows.
        mixtures: the training rows of all arms.
        model: folder of the base model.
    """
    exchanges = _choose_first(_read_exchanges(pool), "exchange_id", config.rows, config.seed)
    task: list[Any] = pq.read_table(rewritten.fetch("train.parquet")).to_pylist()
    trained_ids = {example_id for mixture in mixtures for example_id in _read_ids(mixture)}
    untrained = (row for row in _read_exchanges(pool) if row["exchange_id"] not in trained_ids)
    pool_rows = [_make_example(row["exchange_id"], row["query"], row["answer"]) for row in exchanges]
    if config.foreign is None:
        answers = [row["answer"] for row in (*exchanges[1:], exchanges[0])]
        foreign = [_make_example(row["exchange_id"], row["query"], answer) for row, answer in zip(exchanges, answers, strict=True)]
    else:
        queries = _choose_first(read_foreign(config.foreign, model), "query_id", config.rows, config.seed)
        foreign = [_make_example(row["query_id"], row["query"], row["reference"] or "") for row in queries]
    return ProbeRows(
        queries=[row["messages"][0]["content"] for row in foreign],
        foreign=foreign,
        pool=pool_rows,
        task=_choose_first(task, "example_id", config.rows, config.seed),
        held_out=[
            ([{"role": "user", "content": row["query"]}], row["answer"])
            for row in _choose_first(untrained, "exchange_id", config.held_out, config.seed)
        ],
    )


def _choose_first(rows: Any, name: str, count: int, seed: int) -> list[Any]:
    """Choose the ``count`` rows with the smallest keyed hashes of column ``name``."""
    return heapq.nsmallest(count, rows, key=lambda row: keyed_int(seed, "probe", row[name]))


def _read_exchanges(pool: Artifact) -> Iterator[Exchange]:
    for batch in open_dataset(pool.data / "kept").to_batches():
        yield from cast(list[Exchange], batch.to_pylist())


def _read_ids(mixture: Artifact) -> list[str]:
    return open_dataset(mixture.data).to_table(columns=["example_id"])["example_id"].to_pylist()


def _make_example(example_id: str, query: str, answer: str) -> Example:
    messages: Any = [{"role": "user", "content": query}, {"role": "assistant", "content": answer}]
    return {"example_id": example_id, "group": "diverse", "messages": messages, "label": None}
