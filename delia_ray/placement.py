"""Configs of where and with what resources stages run. They must not change what a stage produces."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.storage.config import OptionalStoredPath
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
    environment: tuple[str, ...] = ("HF_TOKEN", "HF_ENDPOINT", "WANDB_API_KEY", "MLFLOW_TRACKING_URI", "AWS_REGION", "AWS_ENDPOINT_URL")
    """Environment variables that a submitted job gets, as far as they are set where it is submitted."""
    wait_s: float = Field(default=1800.0, ge=0)
    """How long to wait for nodes that the cluster's autoscaler adds, in seconds."""
    mirror: Path = DEFAULT_MIRROR
    """Folder of each node's own disk for the files of a run in an object store, as far as the node needs them."""
    mirror_gib: float | None = Field(default=None, gt=0)
    """How large it may become, in GiB, before what is not in use is removed. null: no limit."""


class Engine(Config):
    """Resources and arguments of each vLLM engine."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: the precision of the run (docs/models.md): bfloat16 on GPUs; on a CPU bfloat16 if it is native and faster, else float32."""
    max_num_seqs: int = Field(default=64, ge=1)
    """Maximum number of sequences in a batch."""
    kv_cache_gib: float = Field(default=1.0, gt=0)
    """KV cache of an engine on a CPU, in GiB."""
    enforce_eager: bool | None = None
    """Whether to run eagerly, without compilation. null: eager on a CPU, compiled on a GPU."""
    sampler: Literal["auto", "vllm", "cpu"] = "auto"
    """Which code samples with top-p when diverse data are generated; both have the same distribution. vllm: its own seeded sampler.
    cpu: an exact one that sorts a few hundred candidates instead of the vocabulary. auto: vllm on GPUs, cpu on CPUs."""


class ActorPool(Config):
    """Ray Data actor pool in which each actor holds an engine."""

    size: int | tuple[int, int] = 1
    """Actors in the pool, or [minimum, maximum]: generation begins with the minimum, and more start as the cluster grows."""
    num_cpus: float = Field(default=1.0, gt=0)
    """CPUs for each actor."""
    num_gpus: int = Field(default=0, ge=0)
    """GPUs for each actor; with more than one the engine is tensor-parallel."""
    batch_rows: int = Field(default=32, ge=1)
    """Rows in a batch for an actor."""
    concurrent_batches: int = Field(default=8, ge=1)
    """Batches in flight to one actor."""

    @property
    def least(self) -> int:
        """Actors to begin with."""
        return _bounds(self.size)[0]

    @property
    def most(self) -> int:
        """Actors at most."""
        return _bounds(self.size)[1]

    @field_validator("size")
    @classmethod
    def _check_size(cls, size: int | tuple[int, int]) -> int | tuple[int, int]:
        return _check_bounds(size)


def _bounds(count: int | tuple[int, int]) -> tuple[int, int]:
    return count if isinstance(count, tuple) else (count, count)


def _check_bounds(count: int | tuple[int, int]) -> int | tuple[int, int]:
    minimum, maximum = _bounds(count)
    if not 1 <= minimum <= maximum:
        raise UserError("must be at least 1, or [minimum, maximum] of at least 1")
    return count


_RESERVED_KEYS = ("bf16", "fp16", "gradient_accumulation_steps", "gradient_clipping", "managed_gradient_accumulation", "optimizer",
             "scheduler", "train_batch_size", "train_micro_batch_size_per_gpu")  # fmt: skip
"""DeepSpeed keys that would change the optimization problem, or that the training loop sets."""


class Kernels(Config):
    """Which code computes what in training; none of it changes what is learned. auto: the libraries' own code on GPUs, ``cpu`` on CPUs."""

    attention: Literal["auto", "torch", "cpu"] = "auto"
    """Attention of packed rows. torch: its variable-length kernel on GPUs in half precision, row by row elsewhere. cpu: rows of similar
    length in one product."""
    lora: Literal["auto", "peft", "cpu"] = "auto"
    """peft: PEFT's own forward pass. cpu: fewer passes over memory."""
    loss: Literal["auto", "torch", "chunked"] = "auto"
    """Cross-entropy. torch: of all logits at once, in float32. chunked: without a float32 copy of all logits; also saves memory on GPUs."""
    layers: Literal["torch", "compiled", "liger"] = "torch"
    """Kernels of norms and gates. compiled: one kernel each, by torch.compile; needs a C++ compiler on CPUs. liger: fused Triton kernels
    for norms, rotary embedding and MLPs; needs GPUs and ``liger-kernel``."""


class TrainWorkers(Config):
    """Ray Train workers of a training run."""

    workers: int | tuple[int, int] = 1
    """Number of data-parallel workers, or [minimum, maximum] for elastic training with as many as the cluster has room for."""
    num_cpus: float = Field(default=1.0, gt=0)
    """CPUs reserved for each worker."""
    num_gpus: int = Field(default=0, ge=0, le=1)
    """GPUs for each worker. 0: CPU with gloo; 1: NCCL."""
    micro_batch_tokens: int = Field(default=2048, ge=16)
    """Tokens of a micro-batch on each worker; more need more memory and do not change the gradient."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """DeepSpeed ZeRO stage."""
    offload: Literal["none", "cpu", "nvme"] = "none"
    """Where ZeRO offloads the optimizer state, and at stage 3 the parameters too, if they do not fit on the GPU."""
    nvme_path: Path | None = None
    """Folder on a fast local disk, for ``offload: nvme``."""
    gradient_checkpointing: bool = False
    """Do not store activations within layers; recompute them in the backward pass."""
    kernels: Kernels = Kernels()
    deepspeed: Mapping[str, Any] = Field(default_factory=dict)
    """Other keys of DeepSpeed's configuration, merged over the keys above."""
    at_once: int | None = Field(default=None, ge=1)
    """Training runs of an experiment at the same time. null: on a local cluster one; on others as many as the nodes that are up hold,
    and at least four where the cluster grows."""
    max_failures: int = Field(default=2, ge=0)
    """Number of worker failures to recover from before the run fails."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Experiment trackers for the step metrics, besides ``metrics.jsonl``; configured by their own environment variables."""

    @field_validator("workers")
    @classmethod
    def _check_workers(cls, workers: int | tuple[int, int]) -> int | tuple[int, int]:
        return _check_bounds(workers)

    @property
    def least(self) -> int:
        """Workers to begin with."""
        return _bounds(self.workers)[0]

    @property
    def most(self) -> int:
        """Workers at most."""
        return _bounds(self.workers)[1]

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.offload != "none" and self.zero_stage == 0:
            raise UserError(f"offload: {self.offload} needs ZeRO, found zero_stage=0; use 1, 2 or 3")
        if self.offload == "nvme" and (self.nvme_path is None or self.zero_stage != 3):
            raise UserError(f"offload: nvme needs nvme_path and zero_stage=3, found {self.nvme_path} and {self.zero_stage}")
        if not isinstance(zero := self.deepspeed.get("zero_optimization", {}), Mapping):
            raise UserError(f"deepspeed: zero_optimization must be a section of keys, found {zero!r}; use zero_stage, or give its keys")
        if reserved := sorted(set(self.deepspeed) & set(_RESERVED_KEYS)):
            raise UserError(f"deepspeed: {', '.join(reserved)} cannot be set here; `finetune` and the training loop set them")
        return self


class Replicas(Config):
    """Replicas of the Ray Serve endpoint."""

    host: str = "127.0.0.1"
    """Network interface to listen on; the default is reachable only from this machine."""
    port: int = Field(default=8123, ge=1, le=65535)
    """Port of the OpenAI-compatible endpoint."""
    size: int = Field(default=1, ge=1)
    """Initial number of replicas of each model."""
    max_size: int = Field(default=1, ge=1)
    """Maximum number of replicas of each model under load."""
    patience_s: float = Field(default=600.0, ge=0)
    """How long scoring waits for an endpoint that does not answer, in seconds: a replica that died is replaced and loads its model."""
    models: int = Field(default=4, ge=1)
    """Models served at the same time during evaluation; the others wait."""
    num_cpus: float = Field(default=1.0, gt=0)
    """CPUs for each replica."""
    num_gpus: int = Field(default=0, ge=0)
    """GPUs for each replica."""


class LmEvalProcess(Config):
    """lm-eval, a separate process that sends requests to the endpoint."""

    python: Path | None = None
    """Python interpreter that has ``lm_eval`` installed. null: this one."""
    concurrent_requests: int = Field(default=16, ge=1)
    """Concurrent requests to the endpoint."""
    timeout_s: int = Field(default=600, ge=1)
    """Timeout of a request, in seconds."""


class LearnedMetricWorkers(Config):
    """Ray tasks that compute learned metrics, one for each metric."""

    num_cpus: float = Field(default=1.0, gt=0)
    """CPUs for each task."""
    num_gpus: int = Field(default=0, ge=0)
    """GPUs for each task."""
    batch_rows: int = Field(default=16, ge=1)
    """Rows in a batch."""
    runtime_env: Mapping[str, Any] | None = None
    """Ray runtime environment with the metric's package, for example ``{py_executable: /path/to/bin/python}``, a Python of the same
    version with the same Ray. null: Ray installs the package with pip."""


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


class Placement(Config):
    """Where every stage runs. It is not part of any request: changing it does not make an artifact stale."""

    cluster: Cluster = Cluster()
    engine: Engine = Engine()
    synthesize: ActorPool = ActorPool()
    cache: OptionalStoredPath = None
    """Folder of the completion cache, keyed by request, or ``s3://bucket/folder``; runs can share it. null: ``.cache`` in the run's."""
    price: Price | None = None
    """With prices, manifests and the terminal show the cost of generation."""
    finetune: TrainWorkers = TrainWorkers()
    serve: Replicas = Replicas()
    lm_eval: LmEvalProcess = LmEvalProcess()
    learned_metrics: LearnedMetricWorkers = LearnedMetricWorkers()
