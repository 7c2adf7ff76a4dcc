"""Files that are still written are uploaded every few seconds, by a thread."""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from delia_ray.core.errors import UserError
from delia_ray.core.storage.objects import remove, write_bytes

State = tuple[int, int]
"""Time of change, and bytes."""


class Uploader:
    """Uploads the files that ``find`` lists whenever they have changed, and removes from the bucket what is gone.

    Args:
        find: lists the files, which are in a mirror.
        seconds: time between two looks.
        knows: whether what is there already is in the bucket.
    """

    def __init__(self, find: Callable[[], Iterable[Path]], seconds: float, *, knows: bool = False):
        self._find, self._seconds = find, seconds
        self._known: dict[Path, State] = self._look() if knows else {}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _look(self) -> dict[Path, State]:
        found: dict[Path, State] = {}
        for file in self._find():
            with suppress(FileNotFoundError):
                status = file.stat()
                found[file] = (status.st_mtime_ns, status.st_size)
        return found

    def sync(self) -> None:
        """Upload now what has changed.

        Raises:
            UserError: the object store does not answer.
        """
        with self._lock:
            found = self._look()
            for file, state in found.items():
                if self._known.get(file) != state:
                    with suppress(FileNotFoundError):  # removed since; the next look sees it
                        write_bytes(file, file.read_bytes())
                        self._known[file] = state
            for file in self._known.keys() - found.keys():
                remove(file)
                del self._known[file]

    def _work(self) -> None:
        while not self._ended.wait(self._seconds):
            with suppress(UserError):  # the next look tries again, and the last one says so
                self.sync()

    def stop(self) -> None:
        """End the thread; what has changed since its last look is not uploaded."""
        self._ended.set()
        self._thread.join()
