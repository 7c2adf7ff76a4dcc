"""Room on the connected cluster: what a stage reserves, whether it fits, and waiting for the nodes that an autoscaler adds."""

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from delia_ray.placement import ActorPool, EngineResources, Replicas, TrainWorkers
from delia_ray.ray_runtime.resources import CORE, PlacementError
from delia_ray.upstream.ray_cluster import Autoscaler, read_autoscaler

Bundle = Mapping[str, float]
"""Resources that one node provides together: ``{"CPU": 8, "GPU": 1}``."""
_POLL_SECONDS = 2.0
_TRAININGS_ON_A_GROWING_CLUSTER = 4
_GRACE_SECONDS = 15.0
"""How long the autoscaler may call a demand impossible before we believe it: it decides on a state that is some seconds old."""


@dataclass(frozen=True)
class Demand:
    """Resources that a stage needs at the same time."""

    key: str
    """Section of the config that asks for them."""
    sums: str
    """How they add up, for messages: ``size=4 x (8 CPUs, 1 GPU)``."""
    bundles: tuple[Bundle, ...]

    def __str__(self) -> str:
        return " and ".join(f"{count} x ({shape})" for shape, count in Counter(map(_describe, self.bundles)).items())


def demand_of_pool(pool: ActorPool, key: str) -> Demand:
    """The actors of a pool, and the CPU that reads their input: without it Ray Data would never start to read, and wait forever."""
    engine = [bundle_of_process(pool)] * pool.processes
    sums = f"size={pool.least} x ({' + '.join(map(_describe, engine))}) and 1 CPU that reads"
    return Demand(key, sums, (*engine * pool.least, {"CPU": 1.0}))


def demand_of_workers(workers: TrainWorkers) -> Demand:
    """The least number of training workers."""
    count, bundle = workers.least, _bundle(workers.num_cpus, workers.num_gpus)
    return Demand("placement.finetune", f"workers={count} x ({_describe(bundle)})", (bundle,) * count)


def demand_of_replicas(replicas: Replicas, engines: int) -> Demand:
    """The replicas of ``engines`` engines, and the router before several."""
    bundles = bundles_of_replica(replicas)
    total = _bundle(replicas.num_cpus, replicas.total_gpus)
    router, routes = (({"CPU": 1.0},), " and 1 CPU that routes") if engines > 1 else ((), "")
    sums = f"{engines} engines x size={replicas.size} x ({_describe(total)}){routes}"
    return Demand("placement.serve", sums, (*bundles * (engines * replicas.size), *router))


def demand_of_stage(engine: EngineResources, key: str) -> Demand:
    """One pipeline stage of an engine, whose GPUs have to be those of one node."""
    return demand_of_one(engine.num_cpus, engine.num_gpus, key)


def bundle_of_process(pool: ActorPool) -> Bundle:
    """What each process of an engine of ``pool`` reserves."""
    return _bundle(pool.num_cpus, pool.gpus_of_process)


def bundles_of_replica(replicas: Replicas) -> list[Bundle]:
    """What the processes of a replica reserve; its CPUs are those of the first, in which the replica's actor runs."""
    first = _bundle(replicas.num_cpus, replicas.gpus_of_process)
    return [first, *[{"GPU": replicas.gpus_of_process}] * (replicas.processes - 1)]


def demand_of_engine(replicas: Replicas) -> Demand:
    """An engine as a replica has it, in a task: the GPUs of each stage are those of one node."""
    if replicas.pipeline_parallel > 1:
        return demand_of_replicas(replicas, 1)
    return demand_of_stage(replicas, "placement.serve")


@contextmanager
def reserve_engine(replicas: Replicas) -> Generator[dict[str, Any]]:
    """Reserve what an engine takes while the block runs, and yield the Ray options of a task that starts it."""
    if replicas.pipeline_parallel == 1:
        yield {"num_cpus": replicas.num_cpus, "num_gpus": replicas.total_gpus}
        return
    # vLLM finds the group that its task runs in, and starts a process in each bundle.
    group = placement_group([dict(bundle) for bundle in bundles_of_replica(replicas)])
    try:
        ray.get(group.ready())
        yield {"num_cpus": replicas.num_cpus, "scheduling_strategy": PlacementGroupSchedulingStrategy(group, 0, True)}
    finally:
        remove_placement_group(group)


def demand_of_one(num_cpus: float, num_gpus: float, key: str) -> Demand:
    """One task."""
    bundle = _bundle(num_cpus, num_gpus)
    return Demand(key, f"({_describe(bundle)})", (bundle,))


def _bundle(num_cpus: float, num_gpus: float) -> dict[str, float]:
    return {"CPU": num_cpus, **({"GPU": float(num_gpus)} if num_gpus else {})}


def _describe(bundle: Bundle) -> str:
    return ", ".join(f"{amount:g} {name if amount == 1 else f'{name}s'}" for name, amount in bundle.items())


def wait_for_room(demand: Demand, timeout_s: float, say: Callable[[str], None]) -> None:
    """Return when the connected cluster can hold ``demand``; an autoscaler is asked to add what is missing.

    Args:
        say: called with a line that says what is waited for, whenever it changes.

    Raises:
        PlacementError: the cluster has too little and cannot grow, what may be added has too little, or it was not added in time.
    """
    if _fits_now(demand):
        return
    with _ask_for(demand) as group:
        started, impossible_since = time.monotonic(), None
        while not group.wait(_POLL_SECONDS):
            waited, autoscaler = time.monotonic() - started, read_autoscaler()
            impossible_since = (impossible_since or waited) if _is_impossible(group, autoscaler) else None
            if impossible_since and waited - impossible_since > _GRACE_SECONDS:
                raise _refuse_impossible(demand)
            if waited > timeout_s:
                raise PlacementError(
                    f"{demand.key}: {demand.sums} was not to be had in {timeout_s / 60:.0f} min (now: {_describe_nodes()}; "
                    f"{_describe_autoscaler(autoscaler)}); look at `ray status`, or raise placement.cluster.wait_s"
                )
            say(f"waiting for {demand}, {_describe_autoscaler(autoscaler)}")


def check_possible(demand: Demand) -> None:
    """Refuse what the cluster can never hold, without waiting for the nodes that hold it.

    Nodes that the autoscaler starts meanwhile are not lost: the demand is one that comes soon.

    Raises:
        PlacementError: the cluster has too little and cannot grow, or what may be added has too little.
    """
    if _fits_now(demand):
        return
    with _ask_for(demand) as group:
        until, is_impossible = time.monotonic() + _GRACE_SECONDS, False
        while time.monotonic() < until and not group.wait(_POLL_SECONDS):
            autoscaler = read_autoscaler()
            is_impossible = _is_impossible(group, autoscaler)
            if autoscaler.starting and not is_impossible:
                return
        if is_impossible:
            raise _refuse_impossible(demand)


def _fits_now(demand: Demand) -> bool:
    """Whether the nodes that are up hold ``demand``.

    Raises:
        PlacementError: they do not, and there will be no others.
    """
    if fits(demand.bundles, _list_nodes()):
        return True
    if read_autoscaler().can_grow:
        return False
    raise PlacementError(f"{demand.key}: {demand.sums} does not fit on the cluster ({_describe_nodes()}); lower it, or add a node")


@contextmanager
def _ask_for(demand: Demand) -> Generator[Any]:
    """Reserve a placement group of the demand's bundles while the block runs; the autoscaler adds the nodes that it needs."""
    group: Any = placement_group([dict(bundle) for bundle in demand.bundles])
    try:
        yield group
    finally:
        remove_placement_group(cast(PlacementGroup, group))


def _is_impossible(group: Any, autoscaler: Autoscaler) -> bool:
    """Whether the autoscaler has no nodes for the group, although none is starting and nothing else holds any."""
    return any(group.id.hex() in details for details in autoscaler.impossible) and not autoscaler.starting and _is_idle()


def _refuse_impossible(demand: Demand) -> PlacementError:
    return PlacementError(
        f"{demand.key}: {demand.sums} fits on no nodes that the autoscaler may add (now: {_describe_nodes()}); lower it, or give the "
        "cluster more or larger nodes"
    )


def _describe_autoscaler(autoscaler: Autoscaler) -> str:
    starting = ", ".join(f"{count} x {name}" for name, count in Counter(autoscaler.starting).items())
    return "; ".join([f"starting {starting}" if starting else "none is starting", *autoscaler.failed[-1:]])


def _list_nodes() -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _describe_nodes() -> str:
    shapes = Counter(_describe({name: node[name] for name in ("CPU", "GPU") if node.get(name)}) or "no CPUs" for node in _list_nodes())
    return ", ".join(f"{count} x ({shape})" for shape, count in shapes.items())


def has_free(demand: Demand) -> bool:
    """Whether the cluster has as many free CPUs and GPUs as ``demand`` takes."""
    free = ray.available_resources()
    return all(sum(bundle.get(name, 0.0) for bundle in demand.bundles) <= free.get(name, 0.0) for name in ("CPU", "GPU"))


def count_concurrent_trainings(workers: TrainWorkers) -> int:
    """Count the training runs of an experiment to start at once.

    One on a local cluster, where each uses all cores; otherwise as many as the nodes that are up hold, and at least four where more
    nodes may come.
    """
    if workers.at_once is not None:
        return workers.at_once
    nodes = _list_nodes()
    if any(CORE in node for node in nodes):
        return 1
    training, count = (_bundle(workers.num_cpus, workers.num_gpus),) * workers.most, 0
    while fits(training * (count + 1), nodes):
        count += 1
    return max(count, _TRAININGS_ON_A_GROWING_CLUSTER if read_autoscaler().can_grow else 1)


def _is_idle() -> bool:
    """Whether all CPUs and GPUs are free: otherwise the autoscaler calls impossible what only has to wait."""
    total, free = ray.cluster_resources(), ray.available_resources()
    return all(total.get(name, 0.0) == free.get(name, 0.0) for name in ("CPU", "GPU"))


def fits(bundles: Sequence[Bundle], nodes: Sequence[Mapping[str, float]]) -> bool:
    """Whether nodes of these total resources hold all bundles at once, the largest placed first."""
    free = [dict(node) for node in nodes]
    for bundle in sorted(bundles, key=lambda each: (each.get("GPU", 0.0), each.get("CPU", 0.0)), reverse=True):
        node = next((each for each in free if all(each.get(name, 0.0) >= amount - 1e-6 for name, amount in bundle.items())), None)
        if node is None:
            return False
        for name, amount in bundle.items():
            node[name] -= amount
    return True
