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
from delia_ray.synthesis.accounting import Effort, Spent
from delia_ray.synthesis.config import GenerationEngine
from delia_ray.synthesis.draws import DRAWN_SCHEMA, PADDING, Drawn, DrawStore, contains, sorted_keys
from delia_ray.synthesis.engine import generate

_MAX_MODEL_TOKENS = 2048
MAX_BLOCKS = 20_000
"""Rows of one block are lost together when their actor is; more blocks than this would keep Ray Data's scheduler busy."""
_TOP_REASONS = 3
_ROWS_PER_BLOCK = 2_000


def blocks_of(rows: int) -> int:
    """How many blocks to read ``rows`` in where each may cost a process that imports transformers, so that it must be worth it."""
    return max(1, rows // _ROWS_PER_BLOCK)


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


@dataclass(frozen=True)
class Desk:
    """What one attempt has in hand."""

    asked: Path
    """Folder for every ``Draw`` of the stage, drawn before or not."""
    failed: DrawStore
    """For rows that the engine failed on."""
    line: Line
    unit: str
    """What a row is, in the plural."""
    before: Any
    """Reference to the keys that were drawn before."""


Drawing = Callable[[Generation, Desk], Spent]
"""Draws what the store does not hold, and says what that used."""


def at_once(draws: ray.data.Dataset) -> Drawing:
    """Rows that are all known beforehand."""
    return partial(_draw_missing, draws)


def draw_and_judge(
    drawing: Drawing, judge: Callable[[Drawn], dict[str, Any]], generation: Generation, line: Line, unit: str, inflight: Path
) -> tuple[Path, Effort]:
    """Continue each ``Draw`` that the store does not hold, and judge all of them into Parquet files.

    Returns:
        The folder of judged rows, in which a row may stand twice; and what drawing them took.

    Raises:
        UserError: the engine failed on more rows than the budget allows; those that it did not fail on are kept.
    """
    asked, failed, judged = inflight / "asked", DrawStore(inflight / "failed"), inflight / "judged"
    for folder in (asked, inflight / "failed"):
        shutil.rmtree(folder, ignore_errors=True)
    before = _keys.remote(generation.store)
    ray.wait([before])  # what is drawn from here on is new
    spent = drawing(generation, Desk(asked, failed, line, unit, before))
    wanted = _keys.remote(DrawStore(asked))
    total, missing, known = ray.get(_counts.remote(wanted, before))
    _check_budget(failed, total, generation.error_budget)
    stores = (generation.store, failed)
    tokens = ray.get(_new_tokens.remote(stores, wanted, before)) if missing else (0, 0)
    files = [str(file) for store in stores for file in store.files()]
    stored = ray.data.read_parquet(files, override_num_blocks=blocks_of(known + missing))
    rows = stored.map_batches(partial(_only, wanted), batch_format="pyarrow")
    rows.map(lambda row: judge(cast(Drawn, row))).write_parquet(str(judged), mode=ray.data.SaveMode.OVERWRITE)
    gpu_seconds = spent.held_seconds * generation.pool.num_gpus
    return judged, Effort(missing, total - missing, spent.seconds, *tokens, spent.cpu_seconds, gpu_seconds)


def draw(todo: ray.data.Dataset, generation: Generation, desk: Desk, tally: RayTally) -> None:
    """Continue every row of ``todo`` and keep what comes back."""
    texts = generate(todo, generation.kind, generation.model, generation.engine, generation.pool, _MAX_MODEL_TOKENS, tally)
    land = partial(_land, generation.store, desk.failed, tally)
    texts.map_batches(land, batch_size=None, batch_format="pyarrow").materialize()


def _draw_missing(draws: ray.data.Dataset, generation: Generation, desk: Desk) -> Spent:
    draws.write_parquet(str(desk.asked), mode=ray.data.SaveMode.OVERWRITE)
    total, missing, _ = ray.get(_counts.remote(_keys.remote(DrawStore(desk.asked)), desk.before))
    if not missing:
        desk.line.say(f"{total} {desk.unit} drawn before")
        return Spent(0.0)
    began, tally = time.monotonic(), RayTally()
    blocks = min(MAX_BLOCKS, max(1, missing // generation.pool.batch_rows))
    asked = ray.data.read_parquet(str(desk.asked), override_num_blocks=blocks)
    with desk.line.follow(tally, missing, desk.unit):
        draw(asked.map_batches(partial(_without, desk.before), batch_format="pyarrow"), generation, desk, tally)
    return Spent(time.monotonic() - began, *tally.used())


@ray.remote(num_cpus=0)
def _keys(store: DrawStore) -> Any:
    return sorted_keys(store.files())


@ray.remote(num_cpus=0)
def _counts(wanted: Any, drawn: Any) -> tuple[int, int, int]:
    """How many rows are wanted, are missing, and were there before."""
    return len(wanted), len(wanted) - int(contains(drawn, wanted).sum()), len(drawn)


@ray.remote(num_cpus=0)
def _new_tokens(stores: tuple[DrawStore, ...], wanted: Any, before: Any) -> tuple[int, int]:
    """Prompt and generated tokens of the wanted rows that were not drawn before."""
    columns = ["key", "prompt_tokens", "answer_tokens"]
    tables = [pq.read_table(file, columns=columns) for store in stores for file in store.files()]
    rows = pa.concat_tables(tables) if tables else DRAWN_SCHEMA.empty_table().select(columns)
    keys, first = np.unique(rows["key"].to_numpy(), return_index=True)
    new = first[contains(wanted, keys) & ~contains(before, keys)]
    return int(rows["prompt_tokens"].to_numpy()[new].sum()), int(rows["answer_tokens"].to_numpy()[new].sum())


def _without(drawn: Any, draws: pa.Table) -> pa.Table:
    return draws.filter(pa.array(~contains(ray.get(drawn), draws["key"].to_numpy())))


def _only(wanted: Any, rows: pa.Table) -> pa.Table:
    return rows.filter(pa.array(contains(ray.get(wanted), rows["key"].to_numpy())))


def _land(store: DrawStore, failed: DrawStore, tally: Tally, rows: pa.Table) -> pa.Table:
    """Store the block, and pass on its size alone. What failed is tried again by the next attempt, so it is kept apart."""
    rows = rows.select(DRAWN_SCHEMA.names).cast(DRAWN_SCHEMA).filter(pc.field("key") != PADDING)
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
