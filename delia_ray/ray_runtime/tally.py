"""Counters of rows, tokens and engine usage that all workers of a run can add to."""

import uuid
from collections import Counter, defaultdict
from functools import lru_cache
from typing import Any

import ray

from delia_ray.ray_runtime.cluster import pin_to_this_node
from delia_ray.ray_runtime.metrics import Labels, current_labels, record


@ray.remote(num_cpus=0)
class _TallyActor:
    """Holds the counters of a driver, by name of the tally."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._usage: defaultdict[str, dict[str, tuple[float, float]]] = defaultdict(dict)

    def add(self, name: str, rows: int, tokens: int, labels: Labels) -> None:
        self._rows[name] += rows
        self._tokens[name] += tokens
        record("delia_ray_rows", rows, labels)
        record("delia_ray_tokens", tokens, labels)

    def read(self, name: str) -> tuple[int, int]:
        return self._rows[name], self._tokens[name]

    def record_engine_usage(self, name: str, engine: str, cpu_seconds: float, held_seconds: float) -> None:
        self._usage[name][engine] = (cpu_seconds, held_seconds)

    def read_engine_usage(self, name: str) -> tuple[float, float]:
        engines = self._usage[name].values()
        return sum(cpu for cpu, _ in engines), sum(held for _, held in engines)


@lru_cache(maxsize=1)
def _get_tally_actor(_node: str, _job: str) -> Any:
    """Return the driver's actor, cached for the connection: without a reference it would end, and a name could find one that is ending."""
    return pin_to_this_node(_TallyActor).remote()


class RayTally:
    """A ``Tally`` that all workers can add to, and a part of the metrics of the stage that makes it. One actor on the driver's node
    holds all tallies of the driver."""

    def __init__(self) -> None:
        self._name, self._labels = uuid.uuid4().hex, current_labels()
        context = ray.get_runtime_context()
        self._actor = _get_tally_actor(context.get_node_id(), context.get_job_id())

    def add(self, *, rows: int = 0, tokens: int = 0) -> None:
        # Waited for, else a process that ends now would take its last counts with it.
        ray.get(self._actor.add.remote(self._name, rows, tokens, self._labels))

    def read(self) -> tuple[int, int]:
        return ray.get(self._actor.read.remote(self._name))

    def record_engine_usage(self, engine: str, cpu_seconds: float, held_seconds: float) -> None:
        """Record CPU-seconds and lifetime of the engine of that name since it started."""
        self._actor.record_engine_usage.remote(self._name, engine, cpu_seconds, held_seconds)

    def read_engine_usage(self) -> tuple[float, float]:
        """Return the CPU-seconds and the lifetimes in seconds, each summed over all engines."""
        return ray.get(self._actor.read_engine_usage.remote(self._name))
