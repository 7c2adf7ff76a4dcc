"""Generation of the completions that are not cached yet, and filtering of all of them. A rerun reads the cache."""

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
import ray
import ray.data

from delia_ray.core.errors import UserError
from delia_ray.core.progress import ProgressLine, Tally
from delia_ray.core.storage.objects import remove
from delia_ray.core.storage.tables import read_table
from delia_ray.placement import ActorPool, Engine
from delia_ray.ray_runtime.capacity import demand_of_pool
from delia_ray.ray_runtime.cluster import Connect
from delia_ray.ray_runtime.tables import read_parquet, write_parquet
from delia_ray.ray_runtime.tally import RayTally
from delia_ray.ray_runtime.tasks import get_result, make_light_task
from delia_ray.synthesis.config import GenerationEngine, VllmEngine
from delia_ray.synthesis.engines.engine import generate
from delia_ray.synthesis.generation.cache import CompletionCache, contains, find_positions, read_sorted_keys
from delia_ray.synthesis.requests import PADDING, RESULT_SCHEMA, GenerationResult
from delia_ray.synthesis.usage import EngineUsage, GenerationCost

MAX_BLOCKS = 20_000
"""The rows of a block are lost together with their actor; more blocks than this would keep Ray Data's scheduler busy."""
_MAX_BATCHES_PER_BLOCK = 8
_MIN_BLOCKS_PER_ENGINE = 16
"""The last blocks leave other engines idle; with this many, for some 3 % of the time."""
_TOP_REASONS = 3
_ROWS_PER_BLOCK = 2_000


def count_blocks(rows: int) -> int:
    """Return the number of blocks to read ``rows`` in, where each block may start a process that imports transformers."""
    return max(1, rows // _ROWS_PER_BLOCK)


def count_generation_blocks(rows: int, pool: ActorPool) -> int:
    """Return the number of blocks to generate ``rows`` in.

    A block costs Ray about as much processor time whatever its size, so it has as many batches as there are engines, up to eight, as
    long as each engine has many blocks: one engine loses little with its actor, and many do not wait for the scheduler
    (``docs/scale.md``).
    """
    batches_per_engine = rows // (pool.batch_rows * pool.most)
    batches_per_block = max(1, min(pool.most, _MAX_BATCHES_PER_BLOCK, batches_per_engine // _MIN_BLOCKS_PER_ENGINE))
    return min(MAX_BLOCKS, max(1, rows // (pool.batch_rows * batches_per_block)))


@dataclass(frozen=True)
class GenerationSetup:
    """The engine that completes prompts, where it runs, and the cache of its completions."""

    backend: GenerationEngine
    model: Path
    engine: Engine
    """With the context length, ``max_model_len``."""
    pool: ActorPool
    cache: CompletionCache
    error_budget: float
    """Share of rows that the engine may fail on."""
    connect: Connect
    """Called before engines start."""


@dataclass(frozen=True)
class Attempt:
    """Folders and state of one attempt at a stage."""

    requests: Path
    """Folder for every ``GenerationRequest`` of the stage, cached or not."""
    failed: CompletionCache
    """Rows that the engine failed on."""
    line: ProgressLine
    unit: str
    """What a row is, in the plural."""
    cached_keys: Any
    """Reference to the keys that were cached before the attempt."""


Strategy = Callable[[GenerationSetup, Attempt], EngineUsage]
"""Generates the rows that are not cached, and returns what the engines used."""


def static_requests(requests: ray.data.Dataset) -> Strategy:
    """Return the strategy for requests that are all known beforehand."""
    return partial(_generate_missing, requests)


def generate_and_filter(
    strategy: Strategy,
    row_filter: Callable[[GenerationResult], dict[str, Any]],
    setup: GenerationSetup,
    line: ProgressLine,
    unit: str,
    inflight: Path,
) -> tuple[Path, GenerationCost]:
    """Complete each ``GenerationRequest`` that is not cached, and write all rows with their filter's verdict to Parquet files.

    Returns:
        The folder of filtered rows, in which a row may occur twice; and the cost of generation.

    Raises:
        UserError: the engine failed on more rows than the budget allows; the completed rows are cached.
    """
    requests, failed, filtered = inflight / "requests", CompletionCache(inflight / "failed"), inflight / "filtered"
    for folder in (requests, inflight / "failed"):
        remove(folder)
    cached_keys = make_light_task(_read_keys).remote(setup.cache)
    ray.wait([cached_keys])  # every key that is added from now on is new
    usage = strategy(setup, Attempt(requests, failed, line, unit, cached_keys))
    requested_keys = make_light_task(_read_keys).remote(CompletionCache(requests))
    total, missing, cached = get_result(make_light_task(_count_rows).remote(requested_keys, cached_keys))
    _check_budget(failed, total, setup.error_budget)
    caches = (setup.cache, failed)
    prompts, answers = get_result(make_light_task(_count_new_tokens).remote(caches, requested_keys, cached_keys)) if missing else (0, 0)
    files = [file for cache in caches for file in cache.files()]
    completions = read_parquet(files, override_num_blocks=count_blocks(cached + missing))
    rows = completions.map_batches(partial(_select_keys, requested_keys), batch_format="pyarrow")
    write_parquet(rows.map(lambda row: row_filter(cast(GenerationResult, row))), filtered, replaces=True)
    gpu_seconds = usage.held_seconds * setup.pool.total_gpus
    return filtered, GenerationCost(missing, total - missing, usage.seconds, prompts, answers, usage.cpu_seconds, gpu_seconds)


def generate_and_cache(pending: ray.data.Dataset, setup: GenerationSetup, attempt: Attempt, tally: RayTally) -> None:
    """Complete every request of ``pending`` and store the results.

    Raises:
        PlacementError: the cluster cannot hold the engines.
    """
    if isinstance(setup.backend, VllmEngine):
        setup.connect(demand_of_pool(setup.pool, "placement.synthesize"))
    results = generate(pending, setup.backend, setup.model, setup.engine, setup.pool, tally)
    store = partial(_store_results, setup.cache, attempt.failed, tally)
    results.map_batches(store, batch_size=None, batch_format="pyarrow").materialize()


def _generate_missing(requests: ray.data.Dataset, setup: GenerationSetup, attempt: Attempt) -> EngineUsage:
    write_parquet(requests, attempt.requests, replaces=True)
    total, missing, _ = get_result(
        make_light_task(_count_rows).remote(make_light_task(_read_keys).remote(CompletionCache(attempt.requests)), attempt.cached_keys)
    )
    if not missing:
        attempt.line.set_status(f"{total} {attempt.unit} · all cached")
        return EngineUsage(0.0)
    started, tally = time.monotonic(), RayTally()
    # Cached rows are read, too, and after a killed attempt lie together.
    blocks = min(MAX_BLOCKS, count_generation_blocks(missing, setup.pool) * total // missing)
    written = read_parquet(attempt.requests, override_num_blocks=blocks)
    with attempt.line.track(tally, missing, attempt.unit):
        pending = written.map_batches(partial(_exclude_keys, attempt.cached_keys), batch_format="pyarrow")
        generate_and_cache(pending, setup, attempt, tally)
    return EngineUsage(time.monotonic() - started, *tally.read_engine_usage())


def _read_keys(cache: CompletionCache) -> Any:
    return read_sorted_keys(cache.files())


def _count_rows(requested_keys: Any, cached_keys: Any) -> tuple[int, int, int]:
    """Count the requested rows, those of them that are not cached, and all cached rows."""
    return len(requested_keys), len(requested_keys) - int(contains(cached_keys, requested_keys).sum()), len(cached_keys)


def _count_new_tokens(caches: tuple[CompletionCache, ...], requested_keys: Any, cached_keys: Any) -> tuple[int, int]:
    """Count the prompt and generated tokens of the requested rows that were not cached before the attempt.

    A byte a requested row is held in memory, beside the keys and one file.
    """
    is_counted, totals = contains(cached_keys, requested_keys), {"prompt_tokens": 0, "answer_tokens": 0}
    for file in (file for cache in caches for file in cache.files()):
        rows = read_table(file, columns=["key", *totals])
        keys, first = np.unique(rows["key"].to_numpy(), return_index=True)
        positions = find_positions(requested_keys, keys)
        new = (requested_keys[positions] == keys) & ~is_counted[positions]
        is_counted[positions[new]] = True
        for name in totals:
            totals[name] += int(rows[name].to_numpy()[first[new]].sum())
    return totals["prompt_tokens"], totals["answer_tokens"]


def _exclude_keys(keys: Any, requests: pa.Table) -> pa.Table:
    return requests.filter(pa.array(~contains(ray.get(keys), requests["key"].to_numpy())))


def _select_keys(keys: Any, rows: pa.Table) -> pa.Table:
    return rows.filter(pa.array(contains(ray.get(keys), rows["key"].to_numpy())))


def _store_results(cache: CompletionCache, failed: CompletionCache, tally: Tally, rows: pa.Table) -> pa.Table:
    """Store a block and return its size alone. Failed rows are stored apart, since the next attempt tries them again."""
    rows = rows.select(RESULT_SCHEMA.names).cast(RESULT_SCHEMA).filter(pc.field("key") != PADDING)
    cache.add(rows.filter(pc.field("error") == ""))
    failed.add(rows.filter(pc.field("error") != ""))
    tally.add(rows=rows.num_rows, tokens=int(np.sum(rows["answer_tokens"].to_numpy())))
    return pa.table({"rows": [rows.num_rows]})


def _check_budget(failed: CompletionCache, total: int, budget: float) -> None:
    reasons = Counter(reason for file in failed.files() for reason in read_table(file, columns=["error"])["error"].to_pylist())
    count = reasons.total()
    if count > budget * total:
        top = "; ".join(f"{times} x {reason[:200]}" for reason, times in reasons.most_common(_TOP_REASONS))
        raise UserError(
            f"the engine failed on {count} of {total} rows, more than synthesize.error_budget={budget:g}: {top}; "
            "fix the cause and run again (completed rows are cached), or raise the budget"
        )
