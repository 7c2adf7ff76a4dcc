"""Memory and processor time of what stays on the head: the driver, Ray's servers, and the actors beside the driver; and of the others."""

import threading
from dataclasses import dataclass, field
from typing import Any

import psutil

DRIVER, OTHERS = "driver", "workers and agents"
_WATCH_SECONDS = 1.0
_ROLES = ("gcs_server", "raylet", "_TallyActor", "WaveState", "WaveBarrier", "_StatsActor", "_AutoscalingCoordinator")
_MIB = 2**20


@dataclass
class Role:
    """What the process of one role took."""

    peak_mib: float = 0.0
    """Most memory that no other process shares."""
    cpu_seconds_by_process: dict[int, float] = field(default_factory=dict)

    def summarize(self) -> dict[str, float]:
        """Peaks of one process of the role, and the processor time of all."""
        return {"peak_mib": self.peak_mib, "cpu_seconds": sum(self.cpu_seconds_by_process.values())}


@dataclass
class HeadWatch:
    """Watches the processes of one driver while the block runs."""

    pid: int
    roles: dict[str, Role] = field(default_factory=dict)

    def __enter__(self) -> "HeadWatch":
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_WATCH_SECONDS):
            try:
                driver = psutil.Process(self.pid)
                processes = [driver, *driver.children(recursive=True)]
            except psutil.Error:
                continue  # not there yet, or no more
            for process in processes:
                self._note(process)

    def _note(self, process: psutil.Process) -> None:
        try:
            name = DRIVER if process.pid == self.pid else find_role(" ".join(process.cmdline()[:1]))
            memory, times = process.memory_full_info(), process.cpu_times()
        except psutil.Error:
            return  # it ended meanwhile
        role = self.roles.setdefault(name, Role())
        role.peak_mib = max(role.peak_mib, memory.uss / _MIB)
        role.cpu_seconds_by_process[process.pid] = times.user + times.system


def find_role(command: str) -> str:
    """Return which of the head's processes has this command; all workers and agents are one role."""
    return next((role for role in _ROLES if role in command), OTHERS)
