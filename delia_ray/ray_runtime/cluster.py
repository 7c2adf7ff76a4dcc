"""Connect to a Ray cluster, or start a local one."""

import os
import re
import warnings
from typing import Any, Protocol

import ray
import ray.data
from ray.data.context import DEFAULT_RETRIED_IO_ERRORS
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from delia_ray.core.storage.paths import MIRROR_GIB
from delia_ray.placement import Cluster, names_cluster
from delia_ray.ray_runtime.capacity import Demand
from delia_ray.ray_runtime.metrics import report_stage
from delia_ray.ray_runtime.resources import CORE, GIB, PlacementError
from delia_ray.upstream.ray_cluster import listening_on_loopback


class Connect(Protocol):
    """Connects to the cluster when a stage first needs one; a run with only finished artifacts starts nothing."""

    def __call__(self, demand: Demand | None = None, /) -> None:
        """Connect, and return when the cluster has room for ``demand``.

        Raises:
            PlacementError: no cluster answers, or it cannot provide the resources.
        """
        ...


_SERVER_ERROR = r"HTTP status 5\d\d"
"""In messages of pyarrow about an object store."""


def build_worker_environment(*, is_local: bool) -> dict[str, str]:
    """Return the environment variables of all Ray workers.

    Args:
        is_local: whether they run on this machine, and vLLM's threads are bound to its processors; elsewhere vLLM chooses by the node.
    """
    binding = {"VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}"} if is_local else {}
    return {
        **binding,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        # Without this, vLLM's CPU platform runs the single-process executor as two processes.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "RAY_TRAIN_V2_ENABLED": "1",
    }


def connect(cluster: Cluster) -> None:
    """Connect to the configured cluster, or start a local one; does nothing if Ray is already initialized.

    Raises:
        PlacementError: there is no Ray cluster at the address.
    """
    _configure_ray_data()
    if ray.is_initialized():
        return
    variables = build_worker_environment(is_local=not names_cluster(cluster))
    if cluster.mirror_gib is not None:
        variables[MIRROR_GIB] = os.environ[MIRROR_GIB] = str(cluster.mirror_gib)
    if names_cluster(cluster):
        try:
            ray.init(address=cluster.address, runtime_env={"env_vars": variables}, log_to_driver=True)
        except ConnectionError:
            raise PlacementError(
                f"placement.cluster.address: no Ray cluster answers at {cluster.address or os.environ['RAY_ADDRESS']}; "
                "start one, or set it to null"
            ) from None
    else:
        # A local cluster has more logical CPUs than physical ones. By default Ray limits each process to as many threads as the
        # logical CPUs it reserves, mostly one, and engines and workers would compute on a single core.
        variables["OMP_NUM_THREADS"] = str(os.cpu_count() or 1)
        # By default Ray's own processes have a higher priority than workers, and wake up a hundred times a second.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # Idle workers wake up a hundred times a second too, so they end after this time (docs/training_profile.md).
        os.environ.setdefault("RAY_num_workers_soft_limit", "0")
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "20000")
        with listening_on_loopback():
            ray.init(
                address="local",
                num_cpus=cluster.num_cpus or max(6, os.cpu_count() or 1),
                resources={CORE: os.cpu_count() or 1},
                object_store_memory=int(cluster.object_store_gib * GIB),
                include_dashboard=False,
                runtime_env={"env_vars": variables},
            )
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a local machine is not preempted
    report_stage()


def _configure_ray_data() -> None:
    """Configure Ray Data for this process, which can be a worker that drives a part of a run."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # The newer Parquet reader starts an actor pool for each read, only to read the files' footers.
    context.use_datasource_v2 = False
    with warnings.catch_warnings():  # every value but the default warns that it has to be a regular expression
        warnings.simplefilter("ignore", DeprecationWarning)
        # Ray Data repeats reads and writes for minutes, but of S3's errors of the server only after two.
        context.retried_io_errors = [*map(re.escape, DEFAULT_RETRIED_IO_ERRORS), _SERVER_ERROR]


def pin_to_this_node(actor: Any, **options: Any) -> Any:
    """Schedule ``actor`` on the driver's node, so that it does not end with another node."""
    strategy = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return actor.options(scheduling_strategy=strategy, **options)
