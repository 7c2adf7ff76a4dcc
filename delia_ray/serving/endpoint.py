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
from delia_ray.core.errors import UserError
from delia_ray.placement import Engine, Replicas
from delia_ray.ray_runtime.capacity import demand_of_replicas, wait_for_room
from delia_ray.ray_runtime.resources import PlacementError, check_port
from delia_ray.serving.applications import find_start_error, get_serve
from delia_ray.serving.engine_specs import EngineSpec, assign_engines
from delia_ray.serving.options import EndpointOptions
from delia_ray.upstream.ray_serve import get_http_address

logger = logging.getLogger(__name__)

_ROOM_SECONDS, _START_SECONDS = 900.0, 3600.0
_HEAD = "node:__internal_head__"
"""A resource that Ray gives the head alone."""
_OPEN = EndpointOptions()
"""No keys, and usual limits."""
LOOPBACK = "127.0.0.1"
ANY_INTERFACES = ("0.0.0.0", "::", "")
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
    serve = get_serve()
    if not serve.status().proxies:
        check_port(replicas)


def find_address(replicas: Replicas) -> tuple[str, int]:
    """Find host and port of an endpoint on the connected cluster: those of its Ray Serve where one runs already."""
    serve = get_serve()
    return get_http_address() if serve.status().proxies else (replicas.host, replicas.port)


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
        PlacementError: the cluster has no room for every model, the port is taken, its root is another application's, or this is not
            its head.
        UserError: a model cannot be started.
    """
    serve = get_serve()
    application, specs = name or ROOT_APPLICATION, assign_engines(models, replicas, base)
    _check_node()
    wait_for_room(demand_of_replicas(replicas, len(specs)), _ROOM_SECONDS, logger.info)
    is_shared = _check_serve(serve, replicas, name)
    host, port = find_address(replicas)
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": replicas.host, "port": replicas.port})
        _run(serve, _build(specs, replicas, engine, max_model_len, options), application, f"/{name}")
        yield _find_url(host, port, name)
    finally:
        _close(serve, application, is_shared)


def _build(specs: Sequence[EngineSpec], replicas: Replicas, engine: Engine, max_model_len: int, options: EndpointOptions) -> Any:
    from delia_ray.serving.app import build_application  # noqa: PLC0415  imports all of vLLM

    return build_application(specs, replicas, engine, max_model_len, options)


def _find_url(host: str, port: int, name: str) -> str:
    host = LOOPBACK if host in ANY_INTERFACES else f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/{name}/v1" if name else f"http://{host}:{port}/v1"


def close_leftover(name: str) -> None:
    """Delete an application that an earlier driver of the same run left, which was ended before it could; it holds GPUs and nodes."""
    serve = get_serve()
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
        start.get(timeout=_START_SECONDS)
    except multiprocessing.TimeoutError:
        raise UserError(f"serve: not every model answers after {_START_SECONDS / 60:g} min; see {logs}") from None
    except RayServeException as error:
        raise PlacementError(f"placement.cluster.address: {error}; end it (`serve shutdown`), or use another cluster") from None
    except RuntimeError as error:
        raise UserError(f"serve: {find_start_error(application) or error}; see {logs}, or build that model again") from None


def _check_node() -> None:
    """Refuse a machine where an endpoint would not be heard.

    Raises:
        PlacementError: it is not the cluster's head.
    """
    heads = [node["NodeID"] for node in ray.nodes() if node["Alive"] and _HEAD in node["Resources"]]
    if heads and ray.get_runtime_context().get_node_id() not in heads:
        raise PlacementError(
            "placement.cluster.address: an endpoint is reached at the cluster's head alone, and this is another machine of it; start it "
            "there, or submit it (`delia submit serve`)"
        )
