"""The stage ``mixed``: task rows and diverse rows in one order that no cluster can change."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from delia_ray.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.errors import UserError
from delia_ray.mixing.config import MixConfig
from delia_ray.mixing.shortage import Pool, check_pool_size
from delia_ray.records import MIXED_KIND, MIXED_SCHEMA, keyed_int
from delia_ray.runtime import Connect

STAGE = "mixed/2"
_ROWS_PER_PARTITION = 50_000


def mix(config: MixConfig, rewritten: Artifact, diverse: Artifact | None, connect: Connect, out: Path, provenance: Provenance) -> Artifact:
    """All training rows of the task and ``floor(ratio * N)`` diverse rows, shuffled globally.

    Both the draw and the shuffle sort by a keyed hash of the row's id, so they are the same at any number of blocks or
    nodes, and the draw of a smaller ratio is contained in that of a larger one.

    Args:
        diverse: the pool; may be null at ratio 0.

    Raises:
        UserError: the pool holds fewer rows than the ratio asks for.
    """

    def write(workspace: Workspace) -> Counts:
        task_rows = task_rows_of(config, rewritten)
        wanted = int(config.ratio * task_rows)
        pool = Pool(diverse.path.parent, int(diverse.manifest.counts["rows"])) if diverse else Pool(out, 0)
        check_pool_size(pool, wanted, task_rows, config.ratio)
        connect()
        own = task_rows if config.rows == "mixture" else 0
        parts = [_task_rows(rewritten, own, config.seed)] if own else []
        if wanted:
            assert diverse is not None
            parts.append(_drawn(diverse, wanted, config.seed))
        shuffle(parts, own + wanted, config.seed).write_parquet(str(workspace.data))
        written = sum(pq.read_metadata(file).num_rows for file in workspace.data.glob("*.parquet"))
        assert written == own + wanted, f"{written} rows written of {own} + {wanted}"
        return {"rows": written, "task": own, "diverse": wanted, "effective_ratio": wanted / task_rows}

    inputs = {"rewritten": rewritten, **({"diverse": diverse} if diverse and config.ratio else {})}
    return build_once(out, stage=STAGE, kind=MIXED_KIND, request=config, inputs=inputs, provenance=provenance, write=write)


def task_rows_of(config: MixConfig, rewritten: Artifact) -> int:
    """N: how many rows of the task ``config`` takes, or measures the ratio by where it leaves them out.

    Raises:
        UserError: the task has fewer.
    """
    there = int(rewritten.manifest.counts["train"])
    if config.task_rows is not None and config.task_rows > there:
        raise UserError(f"mix.task_rows={config.task_rows}, but the task has {there} training rows; lower it, or give more rows")
    return config.task_rows or there


def _task_rows(rewritten: Artifact, wanted: int, seed: int) -> ray.data.Dataset:
    """The ``wanted`` training rows that come first under the choice's hash."""
    rows = pq.read_table(rewritten.data / "train.parquet")
    keys = [keyed_int(seed, "task", identifier) for identifier in rows["example_id"].to_pylist()]
    return ray.data.from_arrow(rows.take(sorted(sorted(range(len(keys)), key=keys.__getitem__)[:wanted])))


def shuffle(parts: Sequence[ray.data.Dataset], rows: int, seed: int) -> ray.data.Dataset:
    """The examples of all ``parts``, ``rows`` in all, in the order of their keyed hashes."""
    first, *others = (_ordered(part, seed) for part in parts)
    rows_of_all = first.union(*others) if others else first
    return rows_of_all.sort("order_key", boundaries=_boundaries(rows))


def _boundaries(rows: int) -> list[int | float]:
    """Where to part a sort of ``rows`` uniform 63-bit keys, so that no partition is too small to be worth a task.

    Left to itself, Ray Data parts every sort 200 ways.
    """
    partitions = max(2, rows // _ROWS_PER_PARTITION)
    return [2**63 * place // partitions for place in range(1, partitions)]


def _drawn(diverse: Artifact, wanted: int, seed: int) -> ray.data.Dataset:
    """The ``wanted`` rows of the pool that come first under the draw's hash, as examples.

    Only the keys meet in one place: 16 bytes a row.
    """
    pool = ray.data.read_parquet(str(diverse.data / "kept"))
    keyed = pool.map_batches(lambda table: _with_key(table, seed, "draw", "exchange_id"), batch_format="pyarrow")
    threshold = sorted(row["order_key"] for row in keyed.select_columns(["order_key"]).take_all())[wanted - 1]
    return keyed.map_batches(_FirstRows(threshold), batch_format="pyarrow")


class _FirstRows:
    """The rows of a batch up to a key, as examples."""

    def __init__(self, threshold: int):
        self._threshold = threshold

    def __call__(self, table: pa.Table) -> pa.Table:
        drawn = pc.field("order_key") <= self._threshold
        return _as_examples(table.filter(drawn))


def _as_examples(table: pa.Table) -> pa.Table:
    rows = [
        {
            "example_id": row["exchange_id"],
            "group": "diverse",
            "messages": [{"role": "user", "content": row["query"]}, {"role": "assistant", "content": row["answer"]}],
            "label": None,
        }
        for row in table.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=MIXED_SCHEMA.remove(MIXED_SCHEMA.get_field_index("order_key")))


def _ordered(rows: ray.data.Dataset, seed: int) -> ray.data.Dataset:
    return rows.map_batches(lambda table: _with_key(table, seed, "order", "example_id").cast(MIXED_SCHEMA), batch_format="pyarrow")


def _with_key(table: pa.Table, seed: int, purpose: str, column: str) -> pa.Table:
    keys: list[Any] = [keyed_int(seed, purpose, identifier) for identifier in table[column].to_pylist()]
    return table.append_column("order_key", pa.array(keys, pa.int64()))
