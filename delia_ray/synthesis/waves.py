"""Draws rows wave after wave, each asked for when the one before has landed, in one execution: the engines stay up throughout."""

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
import pyarrow.parquet as pq
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from delia_ray.progress import Tally
from delia_ray.runtime import RayTally, on_this_node
from delia_ray.synthesis.accounting import Spent
from delia_ray.synthesis.controller import Ask, Line, Memory, Reading, Wave, apply, decide, plan, read_lines, start, waves, write_lines
from delia_ray.synthesis.draws import DRAW_SCHEMA, DrawIndex, padded
from delia_ray.synthesis.generation import MAX_BLOCKS, Desk, Generation, draw
from delia_ray.synthesis.prompts import WORDINGS
from delia_ray.synthesis.query_config import DiversityController

_POLL_SECONDS = 0.5
_READERS = 2
"""Readers that wait for the next wave; they claim no CPU, so waiting takes nothing from the engines."""
LOG = "controller.jsonl"


@dataclass(frozen=True)
class Waves:
    """Rows whose prompts depend on the rows before them; a ``Drawing``."""

    settings: DiversityController
    rows: int
    topics: tuple[str, ...]
    temperature: float
    write: Callable[[list[Ask]], pa.Table]
    """The ``Draw`` of each query; called in a worker."""
    log: Path
    """Where the controller's lines are kept; waves that stand there are not decided again."""

    def __call__(self, generation: Generation, desk: Desk) -> Spent:
        """Draw every wave; those that the store holds start no engine."""
        clerk: Any = on_this_node(_Clerk).remote(self, generation.store, desk)
        controller = _Controller(self, clerk)
        first = controller.reach_first_missing()
        if first < len(controller.waves):
            return _draw_rest(controller, first, generation, desk)
        desk.line.say(f"{self.rows} {desk.unit} drawn before")
        return Spent(0.0)


class _Controller:
    """The loop: plan a wave, see it drawn, measure it, act."""

    def __init__(self, drawing: Waves, clerk: Any):
        self._drawing, self._clerk = drawing, clerk
        self.waves = waves(drawing.rows, drawing.settings.wave_rows)
        self._steerings = start(drawing.topics, drawing.temperature)
        self._log = read_lines(drawing.log.read_text(encoding="utf-8")) if drawing.log.exists() else []
        drawing.log.write_text(write_lines(self._log), encoding="utf-8")

    def reach_first_missing(self) -> int:
        """The first wave with rows to draw, which is then planned; the number of waves if there is none."""
        for wave in range(len(self.waves)):
            if self.ask(wave):
                return wave
            self.settle(wave)
        return len(self.waves)

    def ask(self, wave: int) -> int:
        """Plan the wave; how many of its rows are to be drawn."""
        return ray.get(self._clerk.ask.remote(wave, plan(self._steerings, self.waves[wave])))

    def settle(self, wave: int) -> None:
        """Measure a wave that has landed, and act on it, once and for all. After the last there is nothing to act for."""
        readings: dict[str, Reading] = ray.get(self._clerk.observe.remote(wave))
        if wave + 1 == len(self.waves):
            return
        lines: list[Line | Wave] = [line for line in self._log if line.wave == wave]
        if not lines:
            lines = decide(self._drawing.settings, wave, WORDINGS, self._steerings, readings)
            with self._drawing.log.open("a", encoding="utf-8") as file:
                file.write(write_lines(lines))
        self._steerings = apply(self._steerings, lines)

    def conduct(self, first: int, gate: Any, tally: Tally, stop: threading.Event) -> None:
        """Open the gate to wave after wave. ``first`` is planned already."""
        try:
            for wave in range(first, len(self.waves)):
                missing: int = ray.get(self._clerk.missing.remote()) if wave == first else self.ask(wave)
                tally.add(rows=len(self.waves[wave]) - missing)
                gate.open.remote(wave)
                while missing and not stop.wait(_POLL_SECONDS):
                    missing = ray.get(self._clerk.missing.remote())
                if stop.is_set():
                    return
                self.settle(wave)
        finally:
            gate.close.remote()


def _draw_rest(controller: _Controller, first: int, generation: Generation, desk: Desk) -> Spent:
    began = time.monotonic()
    gate: Any = on_this_node(_Gate).remote()
    tally, stop = RayTally(), threading.Event()
    rows = sum(map(len, controller.waves[first:]))
    step = generation.pool.batch_rows * -(-rows // (MAX_BLOCKS * generation.pool.batch_rows))
    blocks = [(wave, at) for wave in range(first, len(controller.waves)) for at in range(0, len(controller.waves[wave]), step)]
    source = _Blocks(desk.asked.parent / "todo", blocks, step, generation.pool.batch_rows, gate)
    todo = ray.data.read_datasource(source, num_cpus=0, concurrency=_READERS, override_num_blocks=len(blocks))
    with ThreadPoolExecutor(1) as beside, desk.line.follow(tally, rows, desk.unit):
        conducted = beside.submit(controller.conduct, first, gate, tally, stop)
        try:
            draw(todo, generation, desk, tally)
        finally:
            stop.set()
        conducted.result()
    return Spent(time.monotonic() - began, *tally.used())


@ray.remote(num_cpus=0)
class _Clerk:
    """Knows which rows are drawn and what they say, so that the driver need not. One actor beside the driver."""

    def __init__(self, drawing: Waves, store: Any, desk: Desk):
        self._drawing, self._desk = drawing, desk
        self._index = DrawIndex(store, desk.failed)
        self._memory = Memory(drawing.settings.window_texts)
        self._keys = self._missing = np.empty(0, dtype=np.int64)

    def ask(self, wave: int, asks: list[Ask]) -> int:
        """Write the wave's draws to ``asked``, and those not drawn yet to ``todo``; how many the latter are."""
        draws = self._drawing.write(asks)
        self._keys = self._missing = draws["key"].to_numpy()
        count = self.missing()
        todo = draws.filter(pa.array(np.isin(self._keys, self._missing)))
        for folder, rows in ((self._desk.asked, draws), (self._desk.asked.parent / "todo", todo)):
            folder.mkdir(exist_ok=True)
            pq.write_table(rows, folder / f"{wave:06d}.parquet")
        return count

    def missing(self) -> int:
        """How many of the wave's rows have not landed."""
        self._missing = self._index.missing(self._missing)
        return len(self._missing)

    def observe(self, wave: int) -> dict[str, Reading]:
        """Measure the wave. What the engine failed on has no text."""
        rows = self._index.rows(self._keys, "row_id", "topic", "text", "error")
        return self._memory.observe({(row["row_id"], row["topic"], row["text"]) for row in rows.to_pylist() if not row["error"]})


@ray.remote(num_cpus=0)
class _Gate:
    """Holds readers back until their wave is open."""

    def __init__(self) -> None:
        self._opened, self._closed = -1, False
        self._changed = asyncio.Condition()

    async def open(self, wave: int) -> None:
        async with self._changed:
            self._opened = wave
            self._changed.notify_all()

    async def close(self) -> None:
        """Let everyone go, empty-handed where their wave was never opened."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def wait(self, wave: int) -> bool:
        """Whether the wave is open, once that is settled."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self._opened >= wave)
            return self._opened >= wave


class _Blocks(Datasource):
    """The rows of ``todo``, a block a task, in the order of the waves. How many a wave will have is not known yet, so there are
    tasks enough for all."""

    def __init__(self, todo: Path, blocks: list[tuple[int, int]], step: int, batch_rows: int, gate: Any):
        super().__init__()
        self._todo, self._blocks, self._step, self._batch_rows, self._gate = todo, blocks, step, batch_rows, gate

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(self._read, wave, at), unknown, DRAW_SCHEMA) for wave, at in self._blocks]

    def _read(self, wave: int, at: int) -> Iterator[pa.Table]:
        if ray.get(self._gate.wait.remote(wave)):
            rows = pq.read_table(self._todo / f"{wave:06d}.parquet").slice(at, self._step)
            yield padded(rows, self._batch_rows)
