"""A live endpoint for as long as a block of code needs it."""

from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import ray

from delia_ray.artifacts import Artifact
from delia_ray.errors import UserError
from delia_ray.placement import Engine, Replicas
from delia_ray.runtime import PlacementError, check_port

_READY_SECONDS = 900.0
_ANY_INTERFACE = "0.0.0.0"


@contextmanager
def open_endpoint(models: Mapping[str, Artifact], replicas: Replicas, engine: Engine, max_model_len: int) -> Generator[str, None, None]:
    """Serve ``models`` on the connected cluster while the block runs; the value is the base URL, ``/v1`` included.

    Every model answers from the first line of the block on. Afterwards the port is free again.

    Args:
        models: name -> finished model.
        replicas: where the endpoint listens, how many replicas each model has, and on what.
        engine: how each uses its machine.
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
    waiter = ThreadPoolExecutor(1)
    try:
        serve.start(http_options={"host": replicas.host, "port": replicas.port})
        from delia_ray.serving.app import build  # noqa: PLC0415  imports all of vLLM

        application = build(models, replicas, engine, max_model_len)
        _wait(serve, waiter.submit(serve.run, application, logging_config={"enable_access_log": False}))
        host = "127.0.0.1" if replicas.host == _ANY_INTERFACE else replicas.host
        yield f"http://{host}:{replicas.port}/v1"
    finally:
        serve.shutdown()  # also ends the wait of a start that was given up
        waiter.shutdown()


def _check_room(models: int, replicas: Replicas) -> None:
    """Refuse what would wait for ever to be placed."""
    present = cast(Mapping[str, float], ray.cluster_resources())
    for name, each, router in (("CPU", replicas.num_cpus, 1), ("GPU", float(replicas.num_gpus), 0)):
        there = present.get(name, 0.0)
        if models * replicas.size * each + router > there:
            raise PlacementError(
                f"placement.serve: {models} models x size={replicas.size} x num_{name.lower()}s={each:g}"
                + (" and 1 for the router" if router else "")
                + f" take more than the {there:g} {name}s there are; lower either, or add a node"
            )


def _wait(serve: Any, running: Future[Any]) -> None:
    """Return when every model answers, by Serve's own watch over the start."""
    context = ray.get_runtime_context()
    logs = Path(context.get_temp_dir(), context.get_session_name(), "logs")
    try:
        running.result(timeout=_READY_SECONDS)
    except TimeoutError:
        raise UserError(f"serve: not every model answers after {_READY_SECONDS:g} s; see {logs}, or give the cluster more CPUs") from None
    except RuntimeError as error:
        raise UserError(f"serve: {_complaint(serve) or error}; see {logs}, or build that model again") from None


def _complaint(serve: Any) -> str | None:
    """Name of the first deployment that did not start, and the last line of what it says."""
    for application in serve.status().applications.values():
        for name, deployment in application.deployments.items():
            if deployment.status in ("UNHEALTHY", "DEPLOY_FAILED"):
                return f"{name} cannot be started: {deployment.message.strip().splitlines()[-1].strip()}"
    return None
