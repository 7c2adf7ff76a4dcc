"""Whether the folder of the runs is the same on every node: stages exchange files there."""

import uuid
from pathlib import Path

import ray

from delia_ray.ray_runtime.resources import PlacementError, get_light_task_options


def check_shared(folder: Path) -> None:
    """Refuse a folder that a worker of the connected cluster does not see: it looks for a file that this process writes.

    Raises:
        PlacementError: the worker finds another folder, or none.
    """
    mark = folder / f".seen-{uuid.uuid4().hex}"
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        host = ray.get(ray.remote(**get_light_task_options())(_find).remote(mark))
    finally:
        mark.unlink()
    if host:
        raise PlacementError(
            f"run.root: the worker {host} does not see {folder}; name a folder that all nodes share, such as a mount of NFS, EFS or a "
            "ReadWriteMany claim"
        )


def _find(mark: Path) -> str:
    """Return the name of this host if it does not see ``mark``."""
    return "" if mark.exists() else ray.util.get_node_ip_address()
