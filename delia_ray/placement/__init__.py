"""Configs of where and with what resources stages run. They must not change what a stage produces."""

from typing import Literal

from pydantic import Field

from delia_ray.core.config import Config
from delia_ray.core.storage.config import OptionalStoredPath
from delia_ray.placement.access import Access
from delia_ray.placement.cluster import Cluster, Price, names_cluster
from delia_ray.placement.engines import ActorPool, Engine, EngineResources, Quantization, Replicas
from delia_ray.placement.evaluation import LearnedMetricWorkers, LmEvalProcess
from delia_ray.placement.training import Kernels, TrainWorkers

__all__ = [
    "Access",
    "ActorPool",
    "Cluster",
    "Engine",
    "EngineResources",
    "Kernels",
    "LearnedMetricWorkers",
    "LmEvalProcess",
    "Placement",
    "Price",
    "Quantization",
    "Replicas",
    "TrainWorkers",
    "names_cluster",
]


class Placement(Config):
    """Where every stage runs. It is not part of any request: changing it does not make an artifact stale."""

    cluster: Cluster = Cluster()
    log: Literal["auto", "text", "json"] = "auto"
    """Form of the logs in the run's folder. json: one object a line (docs/observability.md). auto: json on a cluster that others
    started, unless on a terminal; else text."""
    engine: Engine = Engine()
    synthesize: ActorPool = ActorPool()
    cache: OptionalStoredPath = None
    """Folder of the completion cache, keyed by request, or ``s3://bucket/folder``; runs can share it. null: ``.cache`` in the run's."""
    price: Price | None = None
    """With prices, manifests and the terminal show the cost of generation."""
    gpu_memory_gib: float | None = Field(default=None, gt=0)
    """Memory of each GPU, in GiB: `delia plan` refuses what cannot fit into it, by its estimate. null: nothing is refused."""
    finetune: TrainWorkers = TrainWorkers()
    serve: Replicas = Replicas()
    lm_eval: LmEvalProcess = LmEvalProcess()
    learned_metrics: LearnedMetricWorkers = LearnedMetricWorkers()
