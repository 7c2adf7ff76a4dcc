"""Ways to do the same work, timed in turns on one machine: the median ratio of the pairs, and its interval.

A turn is a process of its own. It starts up and warms up by itself, works, and ends with one line of JSON on its standard
output: ``work`` done in ``seconds``, and whatever else it found. Memory is watched from outside, alike for all ways.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks.machine import RESULTS, machine

_QUIET_PERCENT = 10.0
_QUIET_SECONDS = 60.0
_WATCH_SECONDS = 2.0


@dataclass
class Way:
    """One way to do the work.

    Attributes:
        said: what each of its turns found.
        rates: work a second of each turn.
        peak_gib: most memory of its process and all below it, shared pages counted once (PSS).
    """

    name: str
    command: Sequence[str]
    said: list[dict[str, Any]] = field(default_factory=list)
    peak_gib: float = 0.0

    @property
    def rates(self) -> list[float]:
        return [turn["work"] / turn["seconds"] for turn in self.said]

    def turn(self, log: Path) -> None:
        """Work once.

        Raises:
            RuntimeError: it ended without a result.
        """
        with log.open("ab") as stream, subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=stream, text=True) as process:
            done = threading.Event()
            watcher = threading.Thread(target=self._watch, args=(process.pid, done))
            watcher.start()
            output = process.communicate()[0]
            done.set()
            watcher.join()
        lines = [line for line in output.splitlines() if line.startswith("{")]
        if process.returncode or not lines:
            raise RuntimeError(f"{self.name} ended with {process.returncode} and without a result; see {log}")
        self.said.append(json.loads(lines[-1]))

    def _watch(self, pid: int, done: threading.Event) -> None:
        while not done.wait(_WATCH_SECONDS):
            self.peak_gib = max(self.peak_gib, _tree_gib(pid))


def _tree_gib(pid: int) -> float:
    total = 0
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0.0
    for process in tree:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**30


def in_turns(ways: Sequence[Way], rounds: int, log: Path) -> None:
    """Let all ways work ``rounds`` times: A B C, C B A, A B C, ..., each turn once the machine is quiet."""
    for number in range(rounds):
        for way in ways if number % 2 == 0 else list(reversed(ways)):
            wait_until_quiet()
            way.turn(log)
            print(f"round {number + 1} of {rounds}: {way.name} {way.rates[-1]:.1f}/s", file=sys.stderr, flush=True)


def wait_until_quiet() -> None:
    """Return when the processors have next to nothing to do, or a minute later."""
    began = time.monotonic()
    while psutil.cpu_percent(interval=2) > _QUIET_PERCENT and time.monotonic() - began < _QUIET_SECONDS:
        pass


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Median of the paired ratios ours / theirs."""
    return median(np.array(ours) / np.array(theirs))


def median(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Median of ``values`` with its 95 % bootstrap interval."""
    given = np.asarray(values, dtype=float)
    # scipy refuses a single one, which has no interval, and stands for itself.
    ends = (
        stats.bootstrap((given,), np.median, n_resamples=1000, method="percentile", rng=0).confidence_interval if len(given) > 1 else None
    )
    low, high = (float(given[0]),) * 2 if ends is None else (float(ends.low), float(ends.high))
    return {"median": float(np.median(given)), "low": low, "high": high, "pairs": len(given)}


def report(name: str, ratios: dict[str, dict[str, Any]], settings: dict[str, Any]) -> None:
    """Write ``results/<name>.json`` and print it.

    Names that this call did not measure stay as they were, unless another machine or another precision gave them.
    """
    file, here = RESULTS / f"{name}.json", machine()
    RESULTS.mkdir(exist_ok=True)
    kept = json.loads(file.read_text()) if file.exists() else {}
    if kept.get("machine") != here or kept["settings"].get("precision") != settings.get("precision"):
        kept = {"ratios": {}, "settings": {}}
    for key, value in settings.items():
        kept["settings"][key] = kept["settings"].get(key, {}) | value if isinstance(value, dict) else value
    found = {"ratios": kept["ratios"] | ratios, "machine": here, "settings": kept["settings"]}
    file.write_text(json.dumps(found, indent=1) + "\n")
    table = Table("", "median", "95 % interval", "pairs", title=f"benchmarks/results/{name}.json")
    for key, each in ratios.items():
        table.add_row(key, f"{each['median']:.3f}", f"{each['low']:.3f} to {each['high']:.3f}", str(each["pairs"]))
    Console().print(table)
