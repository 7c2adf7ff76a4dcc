"""Discrete events of a generation: a head that hands blocks to engines one by one, and engines that work them off.

The head schedules in one thread. Handing out a block takes it half of ``block_seconds``, and noting that the block is done the other
half. It notes what is done before it hands out more, and gives the next block to the engine that has the fewest.
"""

import heapq
from dataclasses import dataclass


@dataclass(frozen=True)
class Generation:
    """A generation on a cluster."""

    rows: int
    block_rows: int
    engines: int
    engine_rows_per_second: float
    block_seconds: float
    """Time of the head's scheduling thread for each block."""
    queued_blocks: int = 16
    """Blocks that an engine holds at most, with those that it is generating."""

    @property
    def blocks(self) -> int:
        return -(-self.rows // self.block_rows)


@dataclass(frozen=True)
class Outcome:
    """What a generation took."""

    seconds: float
    head_busy: float
    """Share of the time in which the head had something to do."""
    engines_busy: float
    """Share of the engines' time in which they generated."""


def simulate(generation: Generation) -> Outcome:
    """Run the events of a generation."""
    half, block_s = generation.block_seconds / 2, generation.block_rows / generation.engine_rows_per_second
    ready, queued = [0.0] * generation.engines, [0] * generation.engines
    loads, completions = [(0, engine) for engine in range(generation.engines)], list[tuple[float, int]]()
    clock, handed, done = 0.0, 0, 0
    while done < generation.blocks:
        if completions and completions[0][0] <= clock:
            engine = heapq.heappop(completions)[1]
            clock, done = clock + half, done + 1
            queued[engine] -= 1
            heapq.heappush(loads, (queued[engine], engine))
            continue
        while loads[0][0] != queued[loads[0][1]]:
            heapq.heappop(loads)  # it has been given or has finished blocks since
        if handed == generation.blocks or loads[0][0] == generation.queued_blocks:
            clock = completions[0][0]
            continue
        engine = loads[0][1]
        clock, handed = clock + half, handed + 1
        is_short = handed == generation.blocks and generation.rows % generation.block_rows
        duration = block_s * (generation.rows % generation.block_rows) / generation.block_rows if is_short else block_s
        ready[engine] = max(clock, ready[engine]) + duration
        queued[engine] += 1
        heapq.heapreplace(loads, (queued[engine], engine))
        heapq.heappush(completions, (ready[engine], engine))
    working = generation.rows / generation.engine_rows_per_second
    return Outcome(clock, generation.blocks * generation.block_seconds / clock, working / (generation.engines * clock))
