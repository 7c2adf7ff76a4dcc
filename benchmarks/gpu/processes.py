"""Processes that measure cases: started one after the other until all cases have a result or the time is up."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_MAX_REASON = 300


def measure_in_processes(command: Sequence[str], cases: Sequence[str], deadline: float, log: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each case with its figures as soon as a process of ``command`` has printed them.

    A process may end before its last case; another one then begins with the next. A case at which a process fails has the outcome
    ``failed`` and the last line that it wrote, one that takes too long has ``cut off``, and the others have ``no time left``.

    Args:
        command: takes names of cases as further arguments, and prints a line of JSON for each, in their order.
        deadline: by the monotonic clock.
        log: receives what the processes write to their standard errors.
    """
    left = list(cases)
    while left and time.monotonic() < deadline:
        before = len(left)
        process, expired = _start([*command, *left], log), threading.Event()
        timer = threading.Timer(deadline - time.monotonic(), _expire, (process, expired))
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if figures := _parse(line):
                    left.remove(figures["case"])
                    yield figures.pop("case"), figures
            code = process.wait()
        finally:
            timer.cancel()
            _kill(process)
        if left and expired.is_set():
            yield left.pop(0), {"outcome": "cut off"}
            break
        if left and (code != 0 or len(left) == before):
            yield left.pop(0), {"outcome": "failed", "code": code, "reason": _read_last_line(log)}
    for case in left:
        yield case, {"outcome": "no time left"}


def _start(command: Sequence[str], log: Path) -> subprocess.Popen[str]:
    """Start a process in a group of its own, so that what it starts can be ended with it."""
    with log.open("ab") as stream:
        stream.write(f"\n{' '.join(command)}\n".encode())
        stream.flush()
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}  # nothing here is on the hub
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True, env=environment, process_group=0)


def _expire(process: subprocess.Popen[str], expired: threading.Event) -> None:
    expired.set()
    _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """End the process and what it has started, as far as they still run."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _parse(line: str) -> dict[str, Any] | None:
    """The figures of a case; None for a line that some library printed."""
    if not line.startswith('{"case": '):
        return None
    return json.loads(line)


def _read_last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:_MAX_REASON] if lines else ""
