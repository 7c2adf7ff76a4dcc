"""A lease on a run in an object store: an object that its owner writes again every few seconds, and that is free when that stops.

Object stores lock nothing. Whoever wants the lease writes it, waits, and reads it back, so that of two that start at once at most one
goes on, as long as a write takes less than the wait. An owner that finds another's name in it stops.
"""

import json
import logging
import os
import platform
import signal
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from delia_ray.core.errors import BusyError, UserError
from delia_ray.core.storage.objects import read_bytes, remove, write_bytes
from delia_ray.core.storage.paths import to_uri

logger = logging.getLogger(__name__)

_RENEW_SECONDS = 5.0
_FREE_SECONDS = 60.0
"""A lease that was not renewed for so long is free: its owner was killed, or has lost the store for minutes."""
_SETTLE_SECONDS = 2.0
_TAKEN = signal.SIGUSR2
"""Tells the main thread that another has the lease. SIGINT would not do: what a shell script starts in the background ignores it."""


@contextmanager
def hold_lease(run: Path, say: Callable[[str], None]) -> Generator["Lease"]:
    """Keep a second process, on whatever machine, out of a run in an object store while the block works.

    Args:
        say: is told what is waited for.

    Raises:
        BusyError: another process holds it, or has taken it while the block worked.
    """
    file, local = run / ".lease", _find_lock(run)
    local.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(local, timeout=0):
            lease = Lease(file, _describe_place(local), say)
            lease.take()
            try:
                with _interrupted_by(_TAKEN), lease.renewed():
                    yield lease
            except KeyboardInterrupt:
                if lease.is_taken:
                    raise lease.refuse() from None
                raise
    except Timeout:
        raise BusyError(f"run.name: another process is working on {to_uri(run)}; wait for it, or give this run another name") from None


def is_driven_here(run: Path) -> bool:
    """Whether a process of this machine holds the lease."""
    local = _find_lock(run)
    if not local.exists():
        return False
    try:
        with FileLock(local, timeout=0):
            return False
    except Timeout:
        return True


def _find_lock(run: Path) -> Path:
    return run / ".lease.lock"


@contextmanager
def _interrupted_by(number: signal.Signals) -> Generator[None]:
    """Let a signal raise ``KeyboardInterrupt`` in the block."""
    before = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _describe_place(local: Path) -> str:
    """Name this machine and its mirror: a lease of the same place is free, since the file is locked here."""
    status = local.stat()
    with suppress(OSError):
        return f"{platform.node()} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {status.st_dev} {status.st_ino}"
    return f"{platform.node()} {status.st_dev} {status.st_ino}"


class Lease:
    """The lease of a run."""

    is_taken = False
    """Whether another process has it by now."""

    def __init__(self, file: Path, place: str, say: Callable[[str], None]):
        self._file, self._place, self._owner, self._say = file, place, uuid.uuid4().hex, say
        self._beats = 0

    def take(self) -> None:
        """Write the lease once it is free.

        Raises:
            BusyError: it is renewed, or another was faster.
        """
        self._wait_until_free()
        self._write()
        time.sleep(_SETTLE_SECONDS)
        if self._read_owner() != self._owner:
            raise self.refuse()

    def _wait_until_free(self) -> None:
        first, until = self._read(), time.monotonic() + _FREE_SECONDS
        if not first or json.loads(first)["place"] == self._place:
            return
        self._say(f"{to_uri(self._file.parent)}: the last process has not given it back; it is free after {_FREE_SECONDS:g} s of silence")
        while first and time.monotonic() < until:
            time.sleep(_RENEW_SECONDS / 2)
            if (now := self._read()) and now != first:
                raise self.refuse()
            first = now

    def refuse(self) -> BusyError:
        """Make the error about the process that holds it."""
        text = self._read()
        place = json.loads(text)["place"].split()[0] if text else "another machine"
        run = to_uri(self._file.parent)
        return BusyError(f"run.name: a process on {place} is working on {run}; wait for it, or give this run another name")

    def _read(self) -> bytes:
        with suppress(FileNotFoundError):
            return read_bytes(self._file)
        return b""

    def _read_owner(self) -> str:
        text = self._read()
        return json.loads(text)["owner"] if text else ""

    def _write(self) -> None:
        self._beats += 1
        write_bytes(self._file, json.dumps({"owner": self._owner, "place": self._place, "beats": self._beats}).encode())

    @contextmanager
    def renewed(self) -> Generator[None]:
        """Renew the lease while the block works, and give it back."""
        ended = threading.Event()
        thread = threading.Thread(target=self._renew, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            if self._read_owner() == self._owner:
                remove(self._file)

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(_RENEW_SECONDS):
            with suppress(UserError):  # the store may be back at the next try; if not, what needs it says so
                if self._read_owner() not in ("", self._owner):
                    self.is_taken = True
                    logger.error("%s: another process has taken the run, since this one was silent for too long", to_uri(self._file.parent))
                    os.kill(os.getpid(), _TAKEN)
                    return
                self._write()
