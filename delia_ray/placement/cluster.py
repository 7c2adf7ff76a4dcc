"""The Ray cluster (``placement.cluster``), and what its machines cost (``placement.price``)."""

import os
from pathlib import Path

from pydantic import Field

from delia_ray.core.config import Config
from delia_ray.core.storage.paths import DEFAULT_MIRROR


class Cluster(Config):
    """Ray cluster to use."""

    address: str | None = None
    """Address of a running cluster (``auto``: the one on this machine). null: inside a Ray job its own cluster, otherwise a local one."""
    num_cpus: int | None = Field(default=None, ge=2)
    """Logical CPUs of a local cluster. null: the machine's, but at least 6, because most actors on a small machine are idle."""
    object_store_gib: float = Field(default=0.5, gt=0)
    """Shared memory of a local cluster's object store, in GiB."""
    jobs_address: str = "http://127.0.0.1:8265"
    """Address that takes jobs (``delia submit``): the cluster's dashboard, mostly through a forwarded port."""
    environment: tuple[str, ...] = (
        *("HF_TOKEN", "HF_ENDPOINT", "WANDB_API_KEY", "MLFLOW_TRACKING_URI"),
        *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    )
    """Environment variables that a submitted job gets, as far as they are set where it is submitted. A list of yours replaces this one."""
    wait_s: float = Field(default=1800.0, ge=0)
    """How long to wait for nodes that the cluster's autoscaler adds, in seconds."""
    mirror: Path = DEFAULT_MIRROR
    """Folder of each node's own disk for the files of a run in an object store, as far as the node needs them."""
    mirror_gib: float | None = Field(default=None, gt=0)
    """How large it may become, in GiB, before what is not in use is removed. null: no limit."""


def names_cluster(cluster: Cluster) -> bool:
    """Whether a cluster that others started is joined, instead of starting a local one."""
    return cluster.address is not None or "RAY_ADDRESS" in os.environ


class Price(Config):
    """Prices for the cost of generation, in any one currency; an omitted price is 0."""

    hour: float = Field(default=0.0, ge=0)
    """An hour of all machines together, during generation."""
    cpu_hour: float = Field(default=0.0, ge=0)
    """An hour of CPU time used by an engine."""
    gpu_hour: float = Field(default=0.0, ge=0)
    """An hour of a GPU reserved by an engine."""
    prompt_mtok: float = Field(default=0.0, ge=0)
    """A million prompt tokens."""
    answer_mtok: float = Field(default=0.0, ge=0)
    """A million generated tokens."""
