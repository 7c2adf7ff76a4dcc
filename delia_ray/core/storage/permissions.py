"""Permissions of files that libraries make."""

import stat
from contextlib import suppress
from pathlib import Path

from delia_ray.core.storage.paths import walk


def share_files(folder: Path) -> None:
    """Let whoever may read ``folder`` read its files; safetensors writes files that only their owner can read."""
    readable = folder.stat().st_mode & (stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    for file in walk(folder):
        if file.is_symlink() or not file.is_file() or (status := file.stat()).st_nlink > 1:
            continue
        mode = stat.S_IMODE(status.st_mode)
        if mode | readable != mode:
            with suppress(PermissionError):  # another user's, who wrote it on a worker
                file.chmod(mode | readable)
