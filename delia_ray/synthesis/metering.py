"""What the engines' processes use, measured from within them."""

import time
import uuid
from typing import Any

import psutil
import ray

from delia_ray.runtime import on_this_node


@ray.remote(num_cpus=0)
class _MeterActor:
    def __init__(self) -> None:
        self._engines: dict[str, tuple[float, float]] = {}

    def report(self, engine: str, cpu_seconds: float, held_seconds: float) -> None:
        self._engines[engine] = (cpu_seconds, held_seconds)

    def read(self) -> tuple[float, float]:
        return sum(cpu for cpu, _ in self._engines.values()), sum(held for _, held in self._engines.values())


class Meter:
    """Adds up what the engines of one stage report, wherever they run."""

    def __init__(self) -> None:
        self._actor: Any = on_this_node(_MeterActor).remote()

    def report(self, engine: str, cpu_seconds: float, held_seconds: float) -> None:
        """What the engine of that name has used since it started."""
        self._actor.report.remote(engine, cpu_seconds, held_seconds)

    def read(self) -> tuple[float, float]:
        """CPU-seconds of all engines, and seconds that they were there."""
        return ray.get(self._actor.read.remote())


class Stopwatch:
    """Measures the process it was made in, with its descendants, from then on."""

    def __init__(self, meter: Meter):
        self._meter, self._name = meter, uuid.uuid4().hex
        self._began, self._cpu = time.monotonic(), _cpu_seconds()

    def report(self) -> None:
        """Tell the meter."""
        self._meter.report(self._name, _cpu_seconds() - self._cpu, time.monotonic() - self._began)


def _cpu_seconds() -> float:
    """User and system time of this process, of its living descendants, and of those that were waited for."""
    total = 0.0
    process = psutil.Process()
    for each in (process, *process.children(recursive=True)):
        try:
            total += sum(each.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue  # it ended since it was listed; its parent has its time now
    return total
