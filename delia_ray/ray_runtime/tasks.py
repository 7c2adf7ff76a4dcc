"""Functions run as Ray tasks: on a worker node of a cluster, whose head has no CPUs and little memory."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import ray
from ray.exceptions import RayTaskError

from delia_ray.core.errors import UserError
from delia_ray.ray_runtime.resources import get_light_task_options, is_local_cluster

P = ParamSpec("P")
T = TypeVar("T")


def make_light_task(function: Callable[..., Any]) -> Any:
    """Make a Ray task of a function that takes next to nothing."""
    return ray.remote(**get_light_task_options())(function)


def run_on_worker(function: Callable[P, T], memory_bytes: int, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in a process of its own on a worker node, which ends afterwards; on a local cluster, in this process.

    Args:
        memory_bytes: reserved on the node.

    Raises:
        UserError: the function raised it.
    """
    if is_local_cluster():
        return function(*args, **kwargs)
    return get_result(ray.remote(num_cpus=1, memory=memory_bytes, max_calls=1)(function).remote(*args, **kwargs))


def get_result(reference: Any) -> Any:
    """Get the result of a task; a ``UserError`` of the worker is raised as itself."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
