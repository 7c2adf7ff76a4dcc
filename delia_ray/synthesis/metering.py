"""What the engines' processes use, measured from within them."""

import time
import uuid

import psutil

from delia_ray.runtime import RayTally


class Stopwatch:
    """Measures the process it was made in, with its descendants, from then on."""

    def __init__(self, tally: RayTally):
        self._tally, self._name = tally, uuid.uuid4().hex
        self._began, self._cpu = time.monotonic(), _cpu_seconds()

    def report(self) -> None:
        """Tell the tally."""
        self._tally.use(self._name, _cpu_seconds() - self._cpu, time.monotonic() - self._began)


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
