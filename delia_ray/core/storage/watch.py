"""Whether a file has come to be, asked often."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from delia_ray.core.errors import UserError
from delia_ray.core.storage.objects import exists
from delia_ray.core.storage.paths import is_remote

_SECONDS = 3.0


def watch(path: Path) -> Callable[[], bool]:
    """Return a function that says whether there is a file; in a mirror a thread asks the bucket every few seconds, until there is."""
    if not is_remote(path):
        return path.exists
    found, pause = threading.Event(), threading.Event()

    def look() -> None:
        while not found.is_set():
            with suppress(UserError):  # the next look tries again
                if exists(path):
                    found.set()
            pause.wait(_SECONDS)

    threading.Thread(target=look, daemon=True).start()
    return found.is_set
