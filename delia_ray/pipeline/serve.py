"""The endpoint of ``delia serve``: the finished models of a run, which is only read."""

import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import ray

from delia_ray.core.artifacts import Artifact
from delia_ray.core.errors import LostError, UserError
from delia_ray.core.layout import BASE
from delia_ray.core.mirrored_run import pull_manifests
from delia_ray.core.storage.paths import to_uri
from delia_ray.placement import Replicas, names_cluster
from delia_ray.ray_runtime.capacity import demand_of_replicas, wait_for_room
from delia_ray.ray_runtime.cluster import connect
from delia_ray.ray_runtime.resources import check_port
from delia_ray.serving.applications import check_name, find_fault, name_application
from delia_ray.serving.endpoint import ANY_INTERFACES, ROOT_APPLICATION, check_endpoint, find_address, is_loopback, open_endpoint
from delia_ray.serving.engine_specs import assign_engines, explain_merged
from delia_ray.serving.finished_models import find_finished_models, use_stored_dtype
from delia_ray.serving.http.keys import VARIABLE, ApiKeys, read_keys
from delia_ray.serving.options import EndpointOptions
from delia_ray.settings import Settings

_WATCH_SECONDS, _PATIENCE_SECONDS = 5.0, 300.0


@dataclass(frozen=True)
class Served:
    """An open endpoint."""

    url: str
    """``/v1`` included."""
    models: tuple[str, ...]
    _application: str
    _wait_s: float
    """How long a replica waits for a node."""
    _say: Callable[[str], None]

    def wait(self) -> NoReturn:
        """Wait until interrupted, and say when a model has no replica.

        Raises:
            LostError: no replica of a model could be started for minutes, or no node was there for it, or others have ended the endpoint.
        """
        worked, was_lost = time.monotonic(), False
        while True:
            time.sleep(_WATCH_SECONDS)
            fault, now = find_fault(self._application), time.monotonic()
            if bool(fault) != was_lost:
                was_lost = bool(fault)
                self._say(f"warning: no replica answers for {fault.text}" if fault else "every model has a replica again")
            if fault is None:
                worked = now
            elif now - worked > (_PATIENCE_SECONDS if fault.is_failed_start else self._wait_s):
                raise LostError(f"serve: {fault.text}; build that model again, or start the endpoint again")


@contextmanager
def serve(settings: Settings, arms: Sequence[str], log: Path, say: Callable[[str], None]) -> Generator[Served]:
    """Serve the finished models of a run while the block works; SIGTERM interrupts it as Ctrl-C does.

    Args:
        arms: which of them, the base model by the name ``base``; empty: all, and those that are finished meanwhile where they are adapters.
        log: file of what the libraries say.
        say: is told what the user should know.

    Raises:
        UserError: none is finished, or not one of ``arms``; or an endpoint cannot be started.
    """
    run, replicas = settings.run.path.resolve(), settings.placement.serve
    pull_manifests(run)
    finished = find_finished_models(run)
    models = _select(finished, arms, run)
    keys = read_keys(replicas.access.keys)
    for line in warn_of_merged(models, finished.get(BASE)) if replicas.form == "adapter" else ():
        say(line)
    engine = use_stored_dtype(settings.placement.engine, models)
    options = EndpointOptions(replicas.access, ApiKeys(keys), None if arms else run)
    # On a cluster others may serve, too, and scoring the same run has an application of its own.
    name = name_application(run, "delia-serve") if names_cluster(settings.placement.cluster) else ""
    if not name:
        check_port(replicas)
    _interrupt_on_sigterm()
    try:
        connect(settings.placement.cluster)
        _interrupt_on_sigterm()  # Ray has put a handler in its place that aborts the process after three seconds
        if name:
            check_endpoint(replicas)
            check_name(name)
        for line in warn_of_address(replicas, find_address(replicas), has_keys=bool(keys)):
            say(line)
        base, wait_s = finished.get(BASE), settings.placement.cluster.wait_s
        wait_for_room(demand_of_replicas(replicas, len(assign_engines(models, replicas, base))), wait_s, say)
        say(f"starting {', '.join(models)}; the log is {log}")
        with open_endpoint(models, replicas, engine, settings.max_model_len, name, base, options) as url:
            yield Served(url, tuple(models), name or ROOT_APPLICATION, wait_s, say)
    finally:
        ray.shutdown()


def warn_of_merged(models: Mapping[str, Artifact], base: Artifact | None) -> Iterator[str]:
    """Warn of arms that are not served as adapters, though the config asks for it."""
    for name, model in models.items():
        reason = explain_merged(model, base.fingerprint) if base else "the run has no base model"
        if reason and name != BASE:
            yield f"warning: placement.serve.form=adapter, but {name} is served merged: {reason}"


def warn_of_address(replicas: Replicas, address: tuple[str, int], *, has_keys: bool) -> Iterator[str]:
    """Warn of an address that is not the config's, and of one under which others could use an endpoint that asks for no key.

    Args:
        address: host and port, of the Ray Serve that runs on the cluster already where one does.
    """
    host, port = address
    if host in ANY_INTERFACES:
        yield f"the endpoint listens at all addresses of this machine, port {port}"
    if address != (replicas.host, replicas.port):
        yield (
            f"warning: Ray Serve runs on that cluster already and listens at {host}:{port}, which the endpoint shares; "
            f"placement.serve.host={replicas.host} and placement.serve.port={replicas.port} have no effect"
        )
    if not has_keys and not is_loopback(host):
        yield (
            f"warning: the endpoint listens at {host} and asks for no key: everyone who reaches this machine there can use it; "
            f"name a file of keys in placement.serve.access.keys, or set {VARIABLE}"
        )


def _interrupt_on_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _select(finished: dict[str, Artifact], arms: Sequence[str], run: Path) -> dict[str, Artifact]:
    if missing := [arm for arm in arms if arm not in finished]:
        raise UserError(f"--arms: {to_uri(run)} has no finished model {missing[0]!r}; name some of {', '.join(finished)}")
    return {name: model for name, model in finished.items() if not arms or name in arms}
