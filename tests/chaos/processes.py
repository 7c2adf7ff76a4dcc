"""Drivers as processes of their own, to be killed when they are so far."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_SECONDS = 400


def start(script: Path, *words: object, log: Path) -> subprocess.Popen[bytes]:
    """Run ``script`` with ``words``."""
    with log.open("ab") as stream:
        return subprocess.Popen([sys.executable, str(script), *map(str, words)], stdout=stream, stderr=stream)


def wait_until(driver: subprocess.Popen[bytes], done: Callable[[], int], least: int) -> None:
    """Return as soon as ``done`` has counted to ``least``, with the driver still at work."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while done() < least and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert driver.poll() is None and done() >= least, "the work was over before anything could be killed"
