"""A temporary OpenAI-compatible endpoint on the connected Ray cluster."""

from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import ray

from delia_ray.core.artifacts import Artifact
from delia_ray.core.errors import UserError
from delia_ray.placement import Engine, Replicas
from delia_ray.ray_runtime.resources import PlacementError, check_port

_TIMEOUT_SECONDS = 900.0
_ANY_INTERFACE = "0.0.0.0"


@contextmanager
def open_endpoint(models: Mapping[str, Artifact], replicas: Replicas, engine: Engine, max_model_len: int) -> Generator[str, None, None]:
    """Serve ``models`` on the connected cluster while the block runs, and yield the base URL, ``/v1`` included.

    Every model is ready when the block starts. Afterwards the port is free again.

    Args:
        models: name -> finished model.
        replicas: host and port of the endpoint, number of replicas of each model, and their resources.
        engine: vLLM engine settings of each replica.
        max_model_len: longest prompt and answer together, in tokens.

    Raises:
        PlacementError: the port is taken, the cluster has no room for every model, or it runs Ray Serve already.
        UserError: a model cannot be started.
    """
    check_port(replicas)
    _check_room(len(models), replicas)
    from ray import serve as ray_serve  # noqa: PLC0415  a run whose scores are finished never needs it

    serve: Any = ray_serve  # partly untyped
    if serve.status().proxies:
        raise PlacementError(
            "placement.cluster.address: Ray Serve runs on that cluster already; end it (`serve shutdown`), or use another cluster"
        )
    executor = ThreadPoolExecutor(1)
    try:
        serve.start(http_options={"host": replicas.host, "port": replicas.port})
        from delia_ray.serving.app import build_application  # noqa: PLC0415  imports all of vLLM

        application = build_application(models, replicas, engine, max_model_len)
        _wait_until_ready(serve, executor.submit(serve.run, application, logging_config={"enable_access_log": False}))
        host = "127.0.0.1" if replicas.host == _ANY_INTERFACE else replicas.host
        yield f"http://{host}:{replicas.port}/v1"
    finally:
        serve.shutdown()  # also ends ``serve.run`` of a start that timed out
        executor.shutdown()


def _check_room(models: int, replicas: Replicas) -> None:
    """Raise a ``PlacementError`` if the cluster has too few CPUs or GPUs: Ray Serve would wait for them forever."""
    resources = cast(Mapping[str, float], ray.cluster_resources())
    for name, per_replica, for_router in (("CPU", replicas.num_cpus, 1), ("GPU", float(replicas.num_gpus), 0)):
        available = resources.get(name, 0.0)
        if models * replicas.size * per_replica + for_router > available:
            raise PlacementError(
                f"placement.serve: {models} models x size={replicas.size} x num_{name.lower()}s={per_replica:g}"
                + (" and 1 for the router" if for_router else "")
                + f" take more than the {available:g} {name}s there are; lower either, or add a node"
            )


def _wait_until_ready(serve: Any, start: Future[Any]) -> None:
    """Return when ``serve.run`` reports that every model is ready.

    Raises:
        UserError: a model did not start, or not in time.
    """
    context = ray.get_runtime_context()
    logs = Path(context.get_temp_dir(), context.get_session_name(), "logs")
    try:
        start.result(timeout=_TIMEOUT_SECONDS)
    except TimeoutError:
        raise UserError(f"serve: not every model answers after {_TIMEOUT_SECONDS:g} s; see {logs}, or give the cluster more CPUs") from None
    except RuntimeError as error:
        raise UserError(f"serve: {_find_deployment_error(serve) or error}; see {logs}, or build that model again") from None


def _find_deployment_error(serve: Any) -> str | None:
    """Return the name of the first deployment that failed to start and the last line of its message, or None."""
    for application in serve.status().applications.values():
        for name, deployment in application.deployments.items():
            if deployment.status in ("UNHEALTHY", "DEPLOY_FAILED"):
                return f"{name} cannot be started: {deployment.message.strip().splitlines()[-1].strip()}"
    return None
