"""The one place that turns a placement into Ray's own words."""

import os
import socket
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from delia_ray.errors import UserError
from delia_ray.placement import ActorPool, Cluster, Engine, Replicas, TrainWorkers


class PlacementError(UserError):
    """The cluster cannot hold what the config asks for."""


_GIB = 2**30
_CORE = "core"
Connect = Callable[[], None]
"""Joins the cluster when a stage first needs one; a run whose artifacts are all finished starts nothing."""


def worker_environment() -> dict[str, str]:
    """Environment of every process that Ray starts for us."""
    return {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}",
        # vLLM's CPU platform turns the one-process executor back into two processes unless this is off.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "RAY_TRAIN_V2_ENABLED": "1",
    }


def connect(cluster: Cluster) -> None:
    """Join the configured cluster, or start a local one. Connecting twice is harmless.

    Raises:
        PlacementError: the address answers no Ray cluster.
    """
    _settle()
    if ray.is_initialized():
        return
    variables = worker_environment()
    if cluster.address or "RAY_ADDRESS" in os.environ:
        try:
            ray.init(address=cluster.address, runtime_env={"env_vars": variables}, log_to_driver=True)
        except ConnectionError:
            raise PlacementError(
                f"placement.cluster.address: no Ray cluster answers at {cluster.address or os.environ['RAY_ADDRESS']}; "
                "start one, or set it to null"
            ) from None
    else:
        # A local cluster has more logical CPUs than there are. Ray would hold each process to as many threads as the logical
        # CPUs it reserves, mostly one, and engines and workers would compute on a single core.
        variables["OMP_NUM_THREADS"] = str(os.cpu_count() or 1)
        # Ray gives its own processes precedence over those that work, and each of their hundred wakes a second would stop one.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # An idle worker wakes a hundred times a second too; one that no stage has needed for this long ends (docs/training_profile.md).
        os.environ.setdefault("RAY_num_workers_soft_limit", "0")
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "20000")
        ray.init(
            address="local",
            num_cpus=cluster.num_cpus or max(6, os.cpu_count() or 1),
            resources={_CORE: os.cpu_count() or 1},
            object_store_memory=int(cluster.object_store_gib * _GIB),
            include_dashboard=False,
            runtime_env={"env_vars": variables},
        )
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # nobody takes this machine away


def _settle() -> None:
    """Ray Data's settings for this process, which may be a worker that drives a part of a run."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # The newer Parquet reader starts a pool of actors for each read, only to look at the files' footers.
    context.use_datasource_v2 = False


def one_core() -> dict[str, Any]:
    """Ray's arguments for a task that keeps a processor busy: no more of them at a time than there are processors."""
    return {"resources": {_CORE: 1}} if _CORE in ray.cluster_resources() else {}


def trainings_at_once(workers: TrainWorkers) -> int:
    """How many training runs the connected cluster has room for, one at least. On a local cluster each run uses every core."""
    present = ray.cluster_resources()
    if _CORE in present:
        return 1
    most = workers.workers if isinstance(workers.workers, int) else workers.workers[1]
    needs = {"CPU": most * workers.num_cpus, "GPU": float(most * workers.num_gpus)}
    return max(1, min(int(present.get(name, 0.0) // each) for name, each in needs.items() if each))


def all_cores() -> dict[str, Any]:
    """Ray's arguments for a task that computes on every processor of a local cluster: one of them at a time."""
    cores = ray.cluster_resources().get(_CORE)
    return {"resources": {_CORE: cores}} if cores else {}


def check_pool(pool: ActorPool, key: str) -> None:
    """Refuse a pool that would hang.

    Raises:
        PlacementError: the pool leaves less than one CPU, so that Ray Data could never schedule the tasks that feed it and
            the job would wait for ever; or it wants GPUs that no node has.
    """
    resources = ray.cluster_resources()
    for name, each, spare in (("CPU", pool.num_cpus, 1.0), ("GPU", float(pool.num_gpus), 0.0)):
        available, taken = resources.get(name, 0.0), pool.size * each
        if taken > available - spare and taken > 0:
            raise PlacementError(
                f"{key}: size={pool.size} x num_{name.lower()}s={each:g} takes {taken:g} of {available:g} {name}s"
                + (" and leaves less than the one that reads its input" if spare else "")
                + "; lower either, or add a node"
            )


def engine_kwargs(engine: Engine, dtype: str, max_model_len: int, num_gpus: int) -> dict[str, Any]:
    """vLLM's engine arguments for one engine."""
    on_cpu = num_gpus == 0
    eager = engine.enforce_eager if engine.enforce_eager is not None else on_cpu
    shared: dict[str, Any] = {
        "dtype": dtype,
        "max_model_len": max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "enforce_eager": eager,
        "trust_remote_code": False,
    }
    if not on_cpu:
        return {**shared, "tensor_parallel_size": num_gpus}
    # One process fewer to start than vLLM's default. Whole prompts only: a seeded request whose prompt is read in chunks
    # makes vLLM rewind its random generator, which a CPU generator cannot ("CPU Generator does not use offset").
    batched_tokens = max(max_model_len, 4096)
    return {
        **shared,
        "distributed_executor_backend": "uni",
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": batched_tokens,
        "kv_cache_memory_bytes": int(engine.kv_cache_gib * _GIB),
    }


def check_port(replicas: Replicas) -> None:
    """Refuse a port that something else listens on.

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


def on_this_node(actor: Any, **options: Any) -> Any:
    """``actor``, to be started on the driver's node, which no other node's end can take along."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return actor.options(scheduling_strategy=here, **options)


@ray.remote(num_cpus=0)
class _TallyActor:
    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._used: defaultdict[str, dict[str, tuple[float, float]]] = defaultdict(dict)

    def add(self, name: str, rows: int, tokens: int) -> None:
        self._rows[name] += rows
        self._tokens[name] += tokens

    def read(self, name: str) -> tuple[int, int]:
        return self._rows[name], self._tokens[name]

    def use(self, name: str, engine: str, cpu_seconds: float, held_seconds: float) -> None:
        self._used[name][engine] = (cpu_seconds, held_seconds)

    def used(self, name: str) -> tuple[float, float]:
        engines = self._used[name].values()
        return sum(cpu for cpu, _ in engines), sum(held for _, held in engines)


@lru_cache(maxsize=1)
def _tallies(_node: str, _job: str) -> Any:
    """Held for as long as the connection: an actor that nobody holds ends, and one that is about to end may still be found by name."""
    return on_this_node(_TallyActor).remote()


class RayTally:
    """A ``Tally`` that any worker can add to. All of a driver's are kept by one small actor on its node."""

    def __init__(self) -> None:
        self._name = uuid.uuid4().hex
        context = ray.get_runtime_context()
        self._actor = _tallies(context.get_node_id(), context.get_job_id())

    def add(self, *, rows: int = 0, tokens: int = 0) -> None:
        self._actor.add.remote(self._name, rows, tokens)

    def read(self) -> tuple[int, int]:
        return ray.get(self._actor.read.remote(self._name))

    def use(self, engine: str, cpu_seconds: float, held_seconds: float) -> None:
        """What the engine of that name has used since it started."""
        self._actor.use.remote(self._name, engine, cpu_seconds, held_seconds)

    def used(self) -> tuple[float, float]:
        """CPU-seconds of all engines, and the seconds that they were there, added up."""
        return ray.get(self._actor.used.remote(self._name))
