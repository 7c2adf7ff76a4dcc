"""Generation in waves: each wave is planned when the one before is complete, in one execution, so that the engines start only once."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from delia_ray.core.progress import Tally
from delia_ray.core.storage.tables import read_table, write_table
from delia_ray.ray_runtime.cluster import pin_to_this_node
from delia_ray.ray_runtime.tally import RayTally
from delia_ray.synthesis.controller.policy import (
    PlannedQuery,
    TopicAction,
    TopicDiversity,
    TopicWindow,
    WaveSummary,
    apply_actions,
    choose_actions,
    format_log,
    initial_states,
    parse_log,
    plan,
    split_into_waves,
)
from delia_ray.synthesis.generation.cache import CacheIndex, CompletionCache
from delia_ray.synthesis.generation.generate import MAX_BLOCKS, Attempt, GenerationSetup, generate_and_cache
from delia_ray.synthesis.prompts import WORDINGS
from delia_ray.synthesis.query_config import DiversityController
from delia_ray.synthesis.requests import REQUEST_SCHEMA, pad_requests
from delia_ray.synthesis.usage import EngineUsage

_POLL_SECONDS = 0.5
_READERS = 2
"""Readers that wait for the next wave; they claim no CPU, so waiting takes nothing from the engines."""
LOG = "controller.jsonl"


@dataclass(frozen=True)
class WaveStrategy:
    """A ``Strategy`` for requests that depend on the completions of earlier waves."""

    settings: DiversityController
    rows: int
    topics: tuple[str, ...]
    temperature: float
    build_requests: Callable[[list[PlannedQuery]], pa.Table]
    """Builds the ``GenerationRequest`` of each query; called in a worker."""
    log: Path
    """File of the controller's log; waves that it holds are not decided again."""

    def __call__(self, setup: GenerationSetup, attempt: Attempt) -> EngineUsage:
        """Generate every wave; waves that are cached start no engine."""
        state: Any = pin_to_this_node(WaveState).remote(self, setup.cache, attempt)
        controller = _Controller(self, state)
        first = controller.skip_cached_waves()
        if first < len(controller.waves):
            return _generate_waves(controller, first, setup, attempt)
        attempt.line.set_status(f"{self.rows} {attempt.unit} · all cached")
        return EngineUsage(0.0)


class _Controller:
    """The control loop: plan a wave, wait until it is complete, measure it, choose actions."""

    def __init__(self, strategy: WaveStrategy, state: Any):
        self._strategy, self._state = strategy, state
        self.waves = split_into_waves(strategy.rows, strategy.settings.wave_rows)
        self._topic_states = initial_states(strategy.topics, strategy.temperature)
        self._log = parse_log(strategy.log.read_text(encoding="utf-8")) if strategy.log.exists() else []
        strategy.log.write_text(format_log(self._log), encoding="utf-8")

    def skip_cached_waves(self) -> int:
        """Plan waves up to the first with missing rows and return its index; the number of waves if there is none."""
        for wave in range(len(self.waves)):
            if self.plan_wave(wave):
                return wave
            self.finish_wave(wave)
        return len(self.waves)

    def plan_wave(self, wave: int) -> int:
        """Plan the wave and return how many of its rows are not cached."""
        return ray.get(self._state.write_requests.remote(wave, plan(self._topic_states, self.waves[wave])))

    def finish_wave(self, wave: int) -> None:
        """Measure a complete wave, choose the actions and log them. After the last wave there are none to choose."""
        diversity: dict[str, TopicDiversity] = ray.get(self._state.observe.remote())
        if wave + 1 == len(self.waves):
            return
        lines: list[TopicAction | WaveSummary] = [line for line in self._log if line.wave == wave]
        if not lines:
            lines = choose_actions(self._strategy.settings, wave, WORDINGS, self._topic_states, diversity)
            with self._strategy.log.open("a", encoding="utf-8") as file:
                file.write(format_log(lines))
        self._topic_states = apply_actions(self._topic_states, lines)

    def run_waves(self, first: int, barrier: Any, tally: Tally, stop: threading.Event) -> None:
        """Open the barrier for one wave after another. ``first`` is already planned."""
        try:
            for wave in range(first, len(self.waves)):
                missing: int = ray.get(self._state.count_missing.remote()) if wave == first else self.plan_wave(wave)
                tally.add(rows=len(self.waves[wave]) - missing)
                barrier.open.remote(wave)
                while missing and not stop.wait(_POLL_SECONDS):
                    missing = ray.get(self._state.count_missing.remote())
                if stop.is_set():
                    return
                self.finish_wave(wave)
        finally:
            barrier.close.remote()


def _generate_waves(controller: _Controller, first: int, setup: GenerationSetup, attempt: Attempt) -> EngineUsage:
    started = time.monotonic()
    barrier: Any = pin_to_this_node(WaveBarrier).remote()
    tally, stop = RayTally(), threading.Event()
    rows = sum(map(len, controller.waves[first:]))
    block_rows = setup.pool.batch_rows * -(-rows // (MAX_BLOCKS * setup.pool.batch_rows))
    blocks = [(wave, start) for wave in range(first, len(controller.waves)) for start in range(0, len(controller.waves[wave]), block_rows)]
    source = WaveDatasource(_pending_folder(attempt), blocks, block_rows, setup.pool.batch_rows, barrier)
    pending = ray.data.read_datasource(source, num_cpus=0, concurrency=_READERS, override_num_blocks=len(blocks))
    with ThreadPoolExecutor(1) as executor, attempt.line.track(tally, rows, attempt.unit):
        waves_done = executor.submit(controller.run_waves, first, barrier, tally, stop)
        try:
            generate_and_cache(pending, setup, attempt, tally)
        finally:
            stop.set()
        waves_done.result()
    return EngineUsage(time.monotonic() - started, *tally.read_engine_usage())


def _pending_folder(attempt: Attempt) -> Path:
    return attempt.requests.parent / "pending"


@ray.remote(num_cpus=0)
class WaveState:
    """Actor beside the driver that holds the keys and texts of the current wave, so that the driver need not hold them."""

    def __init__(self, strategy: WaveStrategy, cache: CompletionCache, attempt: Attempt):
        self._strategy, self._attempt = strategy, attempt
        self._index = CacheIndex(cache, attempt.failed)
        self._window = TopicWindow(strategy.settings.window_texts)
        self._keys = self._missing = np.empty(0, dtype=np.int64)

    def write_requests(self, wave: int, queries: list[PlannedQuery]) -> int:
        """Write the wave's requests, and those that are not cached to the folder of pending ones; return the number of the latter."""
        requests = self._strategy.build_requests(queries)
        self._keys = self._missing = requests["key"].to_numpy()
        count = self.count_missing()
        pending = requests.filter(pa.array(np.isin(self._keys, self._missing)))
        for folder, rows in ((self._attempt.requests, requests), (_pending_folder(self._attempt), pending)):
            write_table(rows, folder / f"{wave:06d}.parquet")
        return count

    def count_missing(self) -> int:
        """Count the wave's rows that are neither cached nor failed yet."""
        self._missing = self._index.missing(self._missing)
        return len(self._missing)

    def observe(self) -> dict[str, TopicDiversity]:
        """Measure the current wave. Rows that the engine failed on have no text."""
        rows = self._index.rows(self._keys, "row_id", "topic", "text", "error")
        return self._window.observe({(row["row_id"], row["topic"], row["text"]) for row in rows.to_pylist() if not row["error"]})


@ray.remote(num_cpus=0)
class WaveBarrier:
    """Actor that blocks readers until their wave is open."""

    def __init__(self) -> None:
        self._opened, self._closed = -1, False
        self._changed = asyncio.Condition()

    async def open(self, wave: int) -> None:
        async with self._changed:
            self._opened = wave
            self._changed.notify_all()

    async def close(self) -> None:
        """Release all readers; those whose wave was never opened read nothing."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def wait(self, wave: int) -> bool:
        """Wait until the wave is open or the barrier is closed, and return whether the wave is open."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self._opened >= wave)
            return self._opened >= wave


class WaveDatasource(Datasource):
    """Datasource of the pending requests, a block a task, in the order of the waves.

    The number of pending rows of a wave is not known in advance, so there are tasks enough for all rows.
    """

    def __init__(self, pending: Path, blocks: list[tuple[int, int]], block_rows: int, batch_rows: int, barrier: Any):
        super().__init__()
        self._pending, self._blocks, self._block_rows, self._batch_rows, self._barrier = pending, blocks, block_rows, batch_rows, barrier

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None) -> list[ReadTask]:
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(self._read, wave, start), metadata, REQUEST_SCHEMA) for wave, start in self._blocks]

    def _read(self, wave: int, start: int) -> Iterator[pa.Table]:
        if ray.get(self._barrier.wait.remote(wave)):
            rows = read_table(self._pending / f"{wave:06d}.parquet").slice(start, self._block_rows)
            yield pad_requests(rows, self._batch_rows)
