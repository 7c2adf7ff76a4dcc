"""The stage ``mixed``: sample diverse rows, mix them with the task rows, and shuffle all of them globally.

The sample and the order do not depend on the cluster.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from delia_ray.core.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.errors import UserError
from delia_ray.core.records import MIXED_KIND, MIXED_SCHEMA, keyed_int
from delia_ray.core.storage.tables import count_rows
from delia_ray.mixing.config import MixConfig
from delia_ray.mixing.pool_size import DiversePool, check_pool_size
from delia_ray.ray_runtime.cluster import Connect
from delia_ray.ray_runtime.tables import read_parquet, write_parquet

STAGE = "mixed/2"
_ROWS_PER_PARTITION = 50_000


def mix(config: MixConfig, rewritten: Artifact, diverse: Artifact | None, connect: Connect, out: Path, provenance: Provenance) -> Artifact:
    """Mix N training rows of the task with ``floor(ratio * N)`` diverse rows, and shuffle them globally.

    Both the sample and the shuffle sort by a keyed hash of the row's id. So they are the same at any number of blocks or nodes, and the
    sample of a smaller ratio is a subset of a larger ratio's.

    Args:
        config: ratio, number of task rows, seed.
        rewritten: the task's rows.
        diverse: the pool; may be None at ratio 0.
        connect: connects to Ray.
        out: folder of the artifact.
        provenance: recorded in the manifest.

    Raises:
        UserError: the pool holds fewer rows than the ratio asks for.
    """

    def write(workspace: Workspace) -> Counts:
        task_rows = count_task_rows(config, rewritten)
        diverse_rows = int(config.ratio * task_rows)
        pool = DiversePool(diverse.path.parent, int(diverse.manifest.counts["rows"])) if diverse else DiversePool(out, 0)
        check_pool_size(pool, diverse_rows, task_rows, config.ratio)
        connect()
        mixed_task_rows = task_rows if config.rows == "mixture" else 0
        parts = [_select_task_rows(rewritten, mixed_task_rows, config.seed)] if mixed_task_rows else []
        if diverse_rows:
            assert diverse is not None
            parts.append(_sample_diverse_rows(diverse, diverse_rows, config.seed))
        rows = mixed_task_rows + diverse_rows
        write_parquet(shuffle(parts, rows, config.seed), workspace.data)
        written = count_rows(workspace.data)
        assert written == rows, f"{written} rows written of {mixed_task_rows} + {diverse_rows}"
        return {"rows": written, "task": mixed_task_rows, "diverse": diverse_rows, "effective_ratio": diverse_rows / task_rows}

    inputs = {"rewritten": rewritten, **({"diverse": diverse} if diverse and config.ratio else {})}
    return build_once(out, stage=STAGE, kind=MIXED_KIND, request=config, inputs=inputs, provenance=provenance, write=write)


def count_task_rows(config: MixConfig, rewritten: Artifact) -> int:
    """Count N, the training rows of the task that ``config`` takes; the ratio refers to N even where the rows themselves are left out.

    Raises:
        UserError: the task has fewer rows.
    """
    return limit_task_rows(config, int(rewritten.manifest.counts["train"]))


def limit_task_rows(config: MixConfig, available: int) -> int:
    """Return N where the task has ``available`` training rows.

    Raises:
        UserError: the task has fewer than ``config`` takes.
    """
    if config.task_rows is not None and config.task_rows > available:
        raise UserError(f"mix.task_rows={config.task_rows}, but the task has {available} training rows; lower it, or give more rows")
    return config.task_rows or available


def _select_task_rows(rewritten: Artifact, count: int, seed: int) -> ray.data.Dataset:
    """Select the ``count`` training rows of the task with the smallest keyed hashes."""
    rows = pq.read_table(rewritten.fetch("train.parquet"))
    keys = [keyed_int(seed, "task", example_id) for example_id in rows["example_id"].to_pylist()]
    return ray.data.from_arrow(rows.take(sorted(sorted(range(len(keys)), key=keys.__getitem__)[:count])))


def shuffle(parts: Sequence[ray.data.Dataset], rows: int, seed: int) -> ray.data.Dataset:
    """Sort the examples of all ``parts``, ``rows`` in all, by their keyed hashes."""
    first, *others = (_add_order_key(part, seed) for part in parts)
    all_rows = first.union(*others) if others else first
    return all_rows.sort("order_key", boundaries=_compute_boundaries(rows))


def _compute_boundaries(rows: int) -> list[int | float]:
    """Compute the keys at which to split a sort of ``rows`` uniform 63-bit keys, so that no partition is too small to be worth a task.

    Without boundaries Ray Data splits every sort into 200 partitions.
    """
    partitions = max(2, rows // _ROWS_PER_PARTITION)
    return [2**63 * index // partitions for index in range(1, partitions)]


def _sample_diverse_rows(diverse: Artifact, count: int, seed: int) -> ray.data.Dataset:
    """Sample the ``count`` rows of the pool with the smallest keyed hashes, as examples.

    Only the keys are gathered on the driver: 16 bytes a row.
    """
    pool = read_parquet(diverse.data / "kept")
    keyed = pool.map_batches(lambda table: _append_key(table, seed, "draw", "exchange_id"), batch_format="pyarrow")
    threshold = sorted(row["order_key"] for row in keyed.select_columns(["order_key"]).take_all())[count - 1]
    return keyed.map_batches(_SelectUpToKey(threshold), batch_format="pyarrow")


class _SelectUpToKey:
    """Selects the rows of a batch up to a key, as examples."""

    def __init__(self, threshold: int):
        self._threshold = threshold

    def __call__(self, table: pa.Table) -> pa.Table:
        is_sampled = pc.field("order_key") <= self._threshold
        return _make_examples(table.filter(is_sampled))


def _make_examples(table: pa.Table) -> pa.Table:
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


def _add_order_key(rows: ray.data.Dataset, seed: int) -> ray.data.Dataset:
    return rows.map_batches(lambda table: _append_key(table, seed, "order", "example_id").cast(MIXED_SCHEMA), batch_format="pyarrow")


def _append_key(table: pa.Table, seed: int, purpose: str, column: str) -> pa.Table:
    keys: list[Any] = [keyed_int(seed, purpose, identifier) for identifier in table[column].to_pylist()]
    return table.append_column("order_key", pa.array(keys, pa.int64()))
