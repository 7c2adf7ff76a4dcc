"""Parquet folders read and written by Ray Data: on a disk that all nodes share, or straight in a bucket."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray.data

from delia_ray.core.storage.objects import locate
from delia_ray.core.storage.paths import is_remote


def read_parquet(paths: Path | Sequence[Path], **options: Any) -> ray.data.Dataset:
    """Read files or folders, with ``ray.data.read_parquet``'s options."""
    places = [locate(path) for path in ((paths,) if isinstance(paths, Path) else paths)]
    store = {"filesystem": places[0][1]} if places and places[0][1] is not None else {}
    names = [name for name, _ in places]
    return ray.data.read_parquet(names[0] if isinstance(paths, Path) else names, **store, **options)


def write_parquet(rows: ray.data.Dataset, folder: Path, *, replaces: bool = False) -> None:
    """Write ``rows`` below ``folder``.

    Args:
        replaces: whether what is there is removed first.
    """
    name, store = locate(folder)
    options: dict[str, Any] = {"mode": ray.data.SaveMode.OVERWRITE} if replaces else {}
    if is_remote(folder):
        options |= {"filesystem": store, "try_create_dir": False}
    rows.write_parquet(name, **options)
