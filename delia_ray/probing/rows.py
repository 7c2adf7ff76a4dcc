"""Which rows the probe looks at: a function of their ids and the seed."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow.dataset as pads
import pyarrow.parquet as pq

from delia_ray.artifacts import Adopted, Artifact
from delia_ray.errors import UserError
from delia_ray.evaluation.divergence import Conversation
from delia_ray.models import load_tokenizer
from delia_ray.probing.config import ProbeConfig
from delia_ray.records import Example, Exchange, Query, keyed_int
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.synthesis.queries import judged_queries
from delia_ray.synthesis.query_config import Columns
from delia_ray.synthesis.user_files import local_rows

_KEY = "probe.foreign"
_FEWEST = 4
_BROKEN = 0.2
"""Share of a file's rows that may be unusable."""


@dataclass(frozen=True)
class Rows:
    """Conversations whose last message is the target."""

    queries: list[str]
    """What the model answers at temperature 1."""
    foreign: list[Example]
    """The same queries in the same order, with others' answers."""
    pool: list[Example]
    """Rows as they are trained on; the same queries, unless others' answers come from a file."""
    task: list[Example]
    held_out: list[Conversation]
    """Diverse rows that no arm was trained on."""


def check_probe(config: ProbeConfig, pool: Artifact | None, task: Artifact, model: Adopted) -> Artifact:
    """The pool; refuses what cannot be probed before anything else is built.

    Raises:
        UserError: no arm takes diverse rows, there are too few of them or of the task's, or the file of others' answers is not usable.
    """
    if pool is None:
        raise UserError("arms: none takes diverse rows, so there is no gradient of theirs to probe; give one a ratio above 0")
    if (found := int(pool.manifest.counts["rows"])) < _FEWEST:
        raise UserError(f"probe.rows: the pool holds {found} diverse rows, and the probe needs {_FEWEST}; raise synthesize.queries.rows")
    if (given := int(task.manifest.counts["train"])) < _FEWEST:
        raise UserError(f"probe.rows: the task has {given} training rows, and the probe needs {_FEWEST}; add some")
    if config.foreign is not None:
        read_foreign(config.foreign, model.path)
    return pool


def adopt_foreign(file: Path) -> Adopted:
    """The user's file of others' answers, by the hash of its bytes."""
    return local_rows(file, Columns(), _KEY)[1]


def read_foreign(file: Path, model: Path) -> list[Query]:
    """The rows of ``file`` that have a query and a reference, both usable with the model's chat template.

    Raises:
        UserError: there are fewer than four, or the file cannot be read.
    """
    rows, _ = local_rows(file, Columns(), _KEY)
    verdicts = judged_queries(rows, control_tokens(load_tokenizer(model)), _BROKEN)
    found = [query for query in (cast(Query, row) for kind, row in verdicts if kind == "kept") if query["reference"]]
    if len(found) < _FEWEST:
        raise UserError(f"{_KEY}: {file} has {len(found)} rows with a `query` and a `reference`, and the probe needs {_FEWEST}; add some")
    return found


def choose_rows(config: ProbeConfig, pool: Artifact, rewritten: Artifact, mixtures: Sequence[Artifact], model: Path) -> Rows:
    """The first rows of each kind in the order of their keyed hashes."""
    exchanges = _first(_exchanges(pool), "exchange_id", config.rows, config.seed)
    task: list[Any] = pq.read_table(rewritten.data / "train.parquet").to_pylist()
    trained = {identifier for mixture in mixtures for identifier in _ids(mixture)}
    spare = (row for row in _exchanges(pool) if row["exchange_id"] not in trained)
    kept = [_example(row["exchange_id"], row["query"], row["answer"]) for row in exchanges]
    if config.foreign is None:
        answers = [row["answer"] for row in (*exchanges[1:], exchanges[0])]
        foreign = [_example(row["exchange_id"], row["query"], answer) for row, answer in zip(exchanges, answers, strict=True)]
    else:
        given = _first(read_foreign(config.foreign, model), "query_id", config.rows, config.seed)
        foreign = [_example(row["query_id"], row["query"], row["reference"] or "") for row in given]
    return Rows(
        queries=[row["messages"][0]["content"] for row in foreign],
        foreign=foreign,
        pool=kept,
        task=_first(task, "example_id", config.rows, config.seed),
        held_out=[
            ([{"role": "user", "content": row["query"]}], row["answer"])
            for row in _first(spare, "exchange_id", config.held_out, config.seed)
        ],
    )


def _first(rows: Any, name: str, count: int, seed: int) -> list[Any]:
    return heapq.nsmallest(count, rows, key=lambda row: keyed_int(seed, "probe", row[name]))


def _exchanges(pool: Artifact) -> Iterator[Exchange]:
    for batch in pads.dataset(pool.data / "kept", format="parquet").to_batches():
        yield from cast(list[Exchange], batch.to_pylist())


def _ids(mixture: Artifact) -> list[str]:
    return pads.dataset(mixture.data, format="parquet").to_table(columns=["example_id"])["example_id"].to_pylist()


def _example(identifier: str, query: str, answer: str) -> Example:
    messages: Any = [{"role": "user", "content": query}, {"role": "assistant", "content": answer}]
    return {"example_id": identifier, "group": "diverse", "messages": messages, "label": None}
