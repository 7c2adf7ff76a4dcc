"""Applications of Ray Serve: their names, and what is wrong with one."""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ray.exceptions import RayActorError

from delia_ray.core.errors import LostError
from delia_ray.core.fingerprint import fingerprint
from delia_ray.ray_runtime.resources import PlacementError


def get_serve() -> Any:
    """Return Ray Serve, which is partly untyped; a run whose scores are finished never imports it."""
    from ray import serve  # noqa: PLC0415

    return serve


def name_application(run: Path, prefix: str = "delia") -> str:
    """Return the name of a run's application on a cluster that others may use, too."""
    return f"{prefix}-{run.name}-{fingerprint(str(run))[:6]}"


def check_name(name: str) -> None:
    """Refuse the name of an application that runs on the connected cluster.

    Raises:
        PlacementError: it does.
    """
    if name in get_serve().status().applications:
        raise PlacementError(
            f"placement.cluster.address: {name} serves this run on that cluster already; end it with Ctrl-C where it runs, or, if nothing "
            f"runs there, with `python -c \"from ray import serve; serve.delete('{name}')\"` on the cluster"
        )


class Fault(NamedTuple):
    """A model without a replica."""

    text: str
    is_failed_start: bool
    """Whether a replica was tried, and not one that waits for a node."""


def find_fault(name: str) -> Fault | None:
    """Find a model of an application that has no replica; None if each has one.

    Raises:
        LostError: the application is gone.
    """
    with suppress(RayActorError):  # the controller has ended
        if application := get_serve().status().applications.get(name):
            lost = ((each, found) for each, found in application.deployments.items() if not found.replica_states.get("RUNNING"))
            return next(
                (Fault(_describe_status(each, found), found.status_trigger == "REPLICA_STARTUP_FAILED") for each, found in lost), None
            )
    raise LostError("serve: the endpoint was ended from elsewhere (`serve shutdown`); start it again")


def find_start_error(name: str) -> str | None:
    """Return the name of an application's first deployment that failed to start and the last line of its message, or None."""
    status = get_serve().status().applications.get(name)
    for each, deployment in status.deployments.items() if status else ():
        if deployment.status in ("UNHEALTHY", "DEPLOY_FAILED"):
            return _describe_status(f"{each} cannot be started", deployment)
    return None


def _describe_status(name: str, deployment: Any) -> str:
    """Describe a deployment by the last line of its message."""
    lines = deployment.message.strip().splitlines()
    return f"{name}: {lines[-1].strip() if lines else 'no replica runs'}"
