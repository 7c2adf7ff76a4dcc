"""Resources of the connected cluster: task options, and checks that refuse placements that cannot be scheduled."""

import socket
from typing import Any

import ray

from delia_ray.core.errors import UserError
from delia_ray.placement import ActorPool, Replicas, TrainWorkers

GIB = 2**30
CORE = "core"
"""Custom resource of local clusters: one for each processor, independent of the number of logical CPUs."""


class PlacementError(UserError):
    """The cluster cannot provide the resources of the placement."""


def get_one_core_options() -> dict[str, Any]:
    """Return Ray options for a task that uses one processor: at most as many run at a time as there are processors."""
    return {"resources": {CORE: 1}} if CORE in ray.cluster_resources() else {}


def count_concurrent_trainings(workers: TrainWorkers) -> int:
    """Count the training runs that fit on the connected cluster at once, at least one. On a local cluster each run uses all cores."""
    available = ray.cluster_resources()
    if CORE in available:
        return 1
    maximum = workers.workers if isinstance(workers.workers, int) else workers.workers[1]
    required = {"CPU": maximum * workers.num_cpus, "GPU": float(maximum * workers.num_gpus)}
    return max(1, min(int(available.get(name, 0.0) // amount) for name, amount in required.items() if amount))


def get_all_cores_options() -> dict[str, Any]:
    """Return Ray options for a task that uses all processors of a local cluster: one runs at a time."""
    cores = ray.cluster_resources().get(CORE)
    return {"resources": {CORE: cores}} if cores else {}


def check_pool(pool: ActorPool, key: str) -> None:
    """Refuse an actor pool that could not be scheduled.

    Raises:
        PlacementError: the pool leaves less than one CPU, so that Ray Data could never schedule the tasks that read its input
            and the job would hang; or it needs more GPUs than the cluster has.
    """
    resources = ray.cluster_resources()
    for name, amount, spare in (("CPU", pool.num_cpus, 1.0), ("GPU", float(pool.num_gpus), 0.0)):
        available, required = resources.get(name, 0.0), pool.size * amount
        if required > available - spare and required > 0:
            raise PlacementError(
                f"{key}: size={pool.size} x num_{name.lower()}s={amount:g} takes {required:g} of {available:g} {name}s"
                + (" and leaves less than the one that reads its input" if spare else "")
                + "; lower either, or add a node"
            )


def check_port(replicas: Replicas) -> None:
    """Refuse a port that is in use.

    Raises:
        PlacementError: the port cannot be bound.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((replicas.host, replicas.port))
        except OSError as error:
            raise PlacementError(
                f"placement.serve.port: {replicas.host}:{replicas.port} cannot be used ({error.strerror}); "
                "choose another (placement.serve.port=...)"
            ) from None
