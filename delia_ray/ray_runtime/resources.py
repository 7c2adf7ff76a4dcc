"""Task options for the processors of a local cluster, and the check of the endpoint's port."""

import errno
import socket
from typing import Any

import ray

from delia_ray.core.errors import UserError
from delia_ray.placement import Replicas

GIB = 2**30
CORE = "core"
"""Custom resource of local clusters: one for each processor, independent of the number of logical CPUs."""


class PlacementError(UserError):
    """The cluster cannot provide the resources of the placement."""


def is_local_cluster() -> bool:
    """Whether this process, or the one that started this worker, started the cluster, on one machine."""
    return CORE in ray.cluster_resources()


def get_light_task_options() -> dict[str, Any]:
    """Return Ray options for a task that takes next to nothing: on a cluster a hundredth of a CPU, so that it never runs on a head that
    has none."""
    return {"num_cpus": 0 if is_local_cluster() else 0.01}


def get_one_core_options() -> dict[str, Any]:
    """Return Ray options for a task that uses one processor: at most as many run at a time as there are processors."""
    return {"resources": {CORE: 1}} if is_local_cluster() else {}


def get_all_cores_options() -> dict[str, Any]:
    """Return Ray options for a task that uses all processors of a local cluster: one runs at a time."""
    cores = ray.cluster_resources().get(CORE)
    return {"resources": {CORE: cores}} if cores else {}


def check_port(replicas: Replicas) -> None:
    """Refuse a port that is in use, and a host that is none of this machine.

    Raises:
        PlacementError: the port cannot be bound.
    """
    with socket.socket(socket.AF_INET6 if ":" in replicas.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((replicas.host, replicas.port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):  # also a name that nothing knows
                raise PlacementError(
                    f"placement.serve.host: {replicas.host} is no address of this machine ({error.strerror}); choose one that "
                    "`hostname -I` names, or 0.0.0.0 for all"
                ) from None
            raise PlacementError(
                f"placement.serve.port: {replicas.host}:{replicas.port} cannot be used ({error.strerror}); "
                "choose another (placement.serve.port=...)"
            ) from None
