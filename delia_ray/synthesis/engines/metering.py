"""CPU and wall time of an engine's processes, measured from within them."""

import time
import uuid

import psutil

from delia_ray.ray_runtime.tally import RayTally


class Stopwatch:
    """Measures the process that creates it and its descendants, from creation on."""

    def __init__(self, tally: RayTally):
        self._tally, self._name = tally, uuid.uuid4().hex
        self._started, self._cpu_at_start = time.monotonic(), _cpu_seconds()

    def report(self) -> None:
        """Report the time used so far to the tally."""
        self._tally.record_engine_usage(self._name, _cpu_seconds() - self._cpu_at_start, time.monotonic() - self._started)


def _cpu_seconds() -> float:
    """User and system time of this process, of its living descendants, and of terminated ones that were waited for."""
    total = 0.0
    process = psutil.Process()
    for each in (process, *process.children(recursive=True)):
        try:
            total += sum(each.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue  # it ended since it was listed; its time now counts for its parent
    return total
