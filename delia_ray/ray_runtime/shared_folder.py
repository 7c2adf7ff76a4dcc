"""Whether the folder of the runs is the same on every node, or can be reached from it: stages exchange files there."""

import uuid
from pathlib import Path

import ray

from delia_ray.core.errors import UserError
from delia_ray.core.storage.objects import exists, remove, write_bytes
from delia_ray.core.storage.paths import is_remote, to_uri
from delia_ray.ray_runtime.resources import PlacementError, get_light_task_options
from delia_ray.ray_runtime.tasks import get_result


def check_shared(folder: Path) -> None:
    """Refuse a folder that a worker of the connected cluster does not see: it looks for a file that this process writes.

    Raises:
        PlacementError: the worker finds another folder, or none.
    """
    mark = folder / f".seen-{uuid.uuid4().hex}"
    write_bytes(mark, b"")
    try:
        host = get_result(ray.remote(**get_light_task_options())(_find).remote(mark))
    except UserError as error:
        raise PlacementError(f"run.root: a worker cannot read {to_uri(folder)}: {error}") from None
    finally:
        remove(mark)
    if host and is_remote(folder):
        raise PlacementError(f"run.root: the worker {host} finds another {to_uri(folder)}; give it the region and the endpoint, too")
    if host:
        raise PlacementError(
            f"run.root: the worker {host} does not see {folder}; name a folder that all nodes share, such as a mount of NFS, EFS or a "
            "ReadWriteMany claim"
        )


def _find(mark: Path) -> str:
    """Return the name of this host if it does not see ``mark``."""
    return "" if exists(mark) else ray.util.get_node_ip_address()
