"""A temporary OpenAI-compatible endpoint on the connected Ray cluster."""

import ipaddress
import logging
import multiprocessing
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException

from delia_ray.core.artifacts import Artifact
from delia_ray.core.errors import LostError, UserError
from delia_ray.core.fingerprint import fingerprint
from delia_ray.placement import Engine, Replicas
from delia_ray.ray_runtime.capacity import demand_of_replicas, wait_for_room
from delia_ray.ray_runtime.resources import PlacementError, check_port
from delia_ray.serving.engine_specs import EngineSpec, assign_engines
from delia_ray.serving.options import EndpointOptions
from delia_ray.upstream.ray_serve import get_http_port

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 900.0
_OPEN = EndpointOptions()
"""No keys, and usual limits."""
LOOPBACK = "127.0.0.1"
_ANY_INTERFACES = ("0.0.0.0", "::", "")
ROOT_APPLICATION = "delia"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def check_endpoint(replicas: Replicas) -> None:
    """Refuse a port that is in use, unless by the Ray Serve of the connected cluster, which an endpoint shares.

    Raises:
        PlacementError: the port cannot be bound.
    """
    from ray import serve as ray_serve  # noqa: PLC0415  a run whose scores are finished never needs it

    serve: Any = ray_serve  # partly untyped
    if not serve.status().proxies:
        check_port(replicas)


@contextmanager
def open_endpoint(
    models: Mapping[str, Artifact],
    replicas: Replicas,
    engine: Engine,
    max_model_len: int,
    name: str = "",
    base: Artifact | None = None,
    options: EndpointOptions = _OPEN,
) -> Generator[str, None, None]:
    """Serve ``models`` on the connected cluster while the block runs, and yield the base URL, ``/v1`` included.

    Every model is ready when the block starts. Afterwards the application is gone, and so is Ray Serve unless others use it.

    Args:
        models: name -> finished model.
        replicas: host and port of the endpoint, number of replicas of each model, and their resources.
        engine: vLLM engine settings of each replica.
        max_model_len: longest prompt and answer together, in tokens.
        name: name and route of the application, which replaces one of that name; empty: at the root.
        base: what the models were trained from, where they may be served as adapters over it.
        options: keys and limits.

    Raises:
        PlacementError: the cluster has no room for every model, the port is taken, or its root is another application's.
        UserError: a model cannot be started.
    """
    from ray import serve as ray_serve  # noqa: PLC0415  a run whose scores are finished never needs it

    serve: Any = ray_serve  # partly untyped
    application, specs = name or ROOT_APPLICATION, assign_engines(models, replicas, base)
    wait_for_room(demand_of_replicas(replicas, len(specs)), _TIMEOUT_SECONDS, logger.info)
    is_shared = _check_serve(serve, replicas, name)
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": replicas.host, "port": replicas.port})
        _run(serve, _build(specs, replicas, engine, max_model_len, options), application, f"/{name}")
        yield _find_url(replicas, name, get_http_port() if is_shared else replicas.port)
    finally:
        _close(serve, application, is_shared)


def _build(specs: Sequence[EngineSpec], replicas: Replicas, engine: Engine, max_model_len: int, options: EndpointOptions) -> Any:
    from delia_ray.serving.app import build_application  # noqa: PLC0415  imports all of vLLM

    return build_application(specs, replicas, engine, max_model_len, options)


def _find_url(replicas: Replicas, name: str, port: int) -> str:
    host = LOOPBACK if replicas.host in _ANY_INTERFACES else replicas.host
    return f"http://{host}:{port}/{name}/v1" if name else f"http://{host}:{port}/v1"


def name_application(run: Path, prefix: str = "delia") -> str:
    """The name of a run's application on a cluster that others may use, too."""
    return f"{prefix}-{run.name}-{fingerprint(str(run))[:6]}"


def find_fault(name: str) -> str | None:
    """Find out why an application has a model without a replica that could be started; None if it has none.

    Raises:
        LostError: the application is gone.
    """
    from ray import serve as ray_serve  # noqa: PLC0415  a run whose scores are finished never needs it

    serve: Any = ray_serve  # partly untyped
    with suppress(RayActorError):  # the controller has ended
        if application := serve.status().applications.get(name):
            return next(
                (
                    f"{each}: {deployment.message.strip().splitlines()[-1].strip()}"
                    for each, deployment in application.deployments.items()
                    if deployment.status_trigger == "REPLICA_STARTUP_FAILED" and not deployment.replica_states.get("RUNNING")
                ),
                None,
            )
    raise LostError("serve: the endpoint was ended from elsewhere (`serve shutdown`); start it again")


def close_leftover(name: str) -> None:
    """Delete an application that an earlier driver of the same run left, which was ended before it could; it holds GPUs and nodes."""
    from ray import serve as ray_serve  # noqa: PLC0415  a run whose scores are finished never needs it

    serve: Any = ray_serve  # partly untyped
    if ray.get_runtime_context().get_task_id() is None and name in serve.status().applications:  # a task is no driver
        logger.warning("the endpoint %s of an earlier driver of this run was still there; it is closed", name)
        _close(serve, name, is_shared=True)


def _check_serve(serve: Any, replicas: Replicas, name: str) -> bool:
    """Return whether Ray Serve runs on the cluster already.

    Raises:
        PlacementError: it does not and the port is taken, or it serves an endpoint at the root, where this one would be.
    """
    if not serve.status().proxies:
        check_port(replicas)
        return False
    if not name and ROOT_APPLICATION in serve.status().applications:
        raise PlacementError(
            "placement.cluster.address: an endpoint runs on that cluster already; end it (`serve shutdown`), or use another cluster"
        )
    return True


def _close(serve: Any, application: str, is_shared: bool) -> None:
    """End the application, and Ray Serve if it was started for it and nobody else uses it by now."""
    with suppress(RayActorError, RayServeException):  # others have ended Ray Serve
        serve.delete(application)
        if not is_shared and not serve.status().applications:
            serve.shutdown()


def _run(serve: Any, built: Any, application: str, route: str) -> None:
    """Run an application, and return when every model is ready.

    Raises:
        PlacementError: another application has the route.
        UserError: a model did not start, or not in time.
    """
    options = {"name": application, "route_prefix": route, "logging_config": {"enable_access_log": False}}
    # In a thread that nothing waits for: ``serve.run`` waits for ever for an application that is deleted meanwhile.
    start = ThreadPool(1).apply_async(serve.run, (built,), options)
    context = ray.get_runtime_context()
    logs = Path(context.get_temp_dir(), context.get_session_name(), "logs")
    try:
        start.get(timeout=_TIMEOUT_SECONDS)
    except multiprocessing.TimeoutError:
        raise UserError(f"serve: not every model answers after {_TIMEOUT_SECONDS:g} s; see {logs}, or give the cluster more CPUs") from None
    except RayServeException as error:
        raise PlacementError(f"placement.cluster.address: {error}; end it (`serve shutdown`), or use another cluster") from None
    except RuntimeError as error:
        raise UserError(f"serve: {_find_deployment_error(serve, application) or error}; see {logs}, or build that model again") from None


def _find_deployment_error(serve: Any, application: str) -> str | None:
    """Return the name of the application's first deployment that failed to start and the last line of its message, or None."""
    status = serve.status().applications.get(application)
    for name, deployment in status.deployments.items() if status else ():
        if deployment.status in ("UNHEALTHY", "DEPLOY_FAILED"):
            return f"{name} cannot be started: {deployment.message.strip().splitlines()[-1].strip()}"
    return None
