"""Draw what is not drawn yet. The rest of a stage is as cheap as reading, however often it starts again."""

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import ray.data

from delia_ray.errors import UserError
from delia_ray.placement import ActorPool, Engine
from delia_ray.progress import Line, Tally
from delia_ray.runtime import RayTally
from delia_ray.synthesis.config import GenerationEngine
from delia_ray.synthesis.draws import DRAWN_SCHEMA, Drawn, DrawStore, contains, sorted_keys
from delia_ray.synthesis.engine import generate

_MAX_MODEL_TOKENS = 2048
_MAX_BLOCKS = 20_000
"""Rows of one block are lost together when their actor is; more blocks than this would keep Ray Data's scheduler busy."""
_TOP_REASONS = 3


@dataclass(frozen=True)
class Generation:
    """What continues prompts, and where."""

    kind: GenerationEngine
    model: Path
    engine: Engine
    pool: ActorPool
    store: DrawStore
    error_budget: float
    """Share of rows that the engine may fail on."""


def draw_and_judge(
    draws: ray.data.Dataset, judge: Callable[[Drawn], dict[str, Any]], generation: Generation, line: Line, unit: str, inflight: Path
) -> tuple[Path, dict[str, int | float]]:
    """Continue each ``Draw`` that the store does not hold, and judge all of them into Parquet files.

    Returns:
        The folder of judged rows, in which a row may stand twice; and how many were drawn and reused, and in how many seconds.

    Raises:
        UserError: the engine failed on more rows than the budget allows; those that it did not fail on are kept.
    """
    asked, failed, judged = inflight / "asked", DrawStore(inflight / "failed"), inflight / "judged"
    shutil.rmtree(inflight / "failed", ignore_errors=True)
    draws.write_parquet(str(asked), mode=ray.data.SaveMode.OVERWRITE)
    wanted = _keys.remote(DrawStore(asked))
    drawn = _keys.remote(generation.store)
    total, missing = ray.get(_counts.remote(wanted, drawn))
    began = time.monotonic()
    if missing:
        tally: Tally = RayTally()
        with line.follow(tally, missing, unit):
            _draw(asked, missing, drawn, generation, failed, tally)
    else:
        line.say(f"{total} {unit} drawn before")
    seconds = time.monotonic() - began
    _check_budget(failed, total, generation.error_budget)
    files = [str(file) for store in (generation.store, failed) for file in store.files()]
    rows = ray.data.read_parquet(files).map_batches(partial(_only, wanted), batch_format="pyarrow")
    rows.map(lambda row: judge(cast(Drawn, row))).write_parquet(str(judged), mode=ray.data.SaveMode.OVERWRITE)
    return judged, {"drawn": missing, "reused": total - missing, "seconds": round(seconds, 3)}


def _draw(asked: Path, missing: int, drawn: Any, generation: Generation, failed: DrawStore, tally: Tally) -> None:
    blocks = min(_MAX_BLOCKS, max(1, missing // generation.pool.batch_rows))
    draws = ray.data.read_parquet(str(asked), override_num_blocks=blocks)
    todo = draws.map_batches(partial(_without, drawn), batch_format="pyarrow")
    texts = generate(todo, generation.kind, generation.model, generation.engine, generation.pool, _MAX_MODEL_TOKENS)
    land = partial(_land, generation.store, failed, tally)
    texts.map_batches(land, batch_size=None, batch_format="pyarrow").materialize()


@ray.remote(num_cpus=0)
def _keys(store: DrawStore) -> Any:
    return sorted_keys(store.files())


@ray.remote(num_cpus=0)
def _counts(wanted: Any, drawn: Any) -> tuple[int, int]:
    return len(wanted), len(wanted) - int(contains(drawn, wanted).sum())


def _without(drawn: Any, draws: pa.Table) -> pa.Table:
    return draws.filter(pa.array(~contains(ray.get(drawn), draws["key"].to_numpy())))


def _only(wanted: Any, rows: pa.Table) -> pa.Table:
    return rows.filter(pa.array(contains(ray.get(wanted), rows["key"].to_numpy())))


def _land(store: DrawStore, failed: DrawStore, tally: Tally, rows: pa.Table) -> pa.Table:
    """Store the block, and pass on its size alone. What failed is tried again by the next attempt, so it is kept apart."""
    rows = rows.select(DRAWN_SCHEMA.names).cast(DRAWN_SCHEMA)
    store.add(rows.filter(pc.field("error") == ""))
    failed.add(rows.filter(pc.field("error") != ""))
    tally.add(rows=rows.num_rows, tokens=int(np.sum(rows["answer_tokens"].to_numpy())))
    return pa.table({"rows": [rows.num_rows]})


def _check_budget(failed: DrawStore, total: int, budget: float) -> None:
    reasons = Counter(reason for file in failed.files() for reason in pq.read_table(file, columns=["error"])["error"].to_pylist())
    count = reasons.total()
    if count > budget * total:
        top = "; ".join(f"{times} x {reason[:200]}" for reason, times in reasons.most_common(_TOP_REASONS))
        raise UserError(
            f"the engine failed on {count} of {total} rows, more than synthesize.error_budget={budget:g}: {top}; "
            "mend the cause and run again (what was drawn is kept), or raise the budget"
        )
