"""Where work runs. Nothing in this module may change what a stage is asked to produce."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from delia_ray.config import Config
from delia_ray.errors import UserError


class Cluster(Config):
    """Which Ray cluster to use."""

    address: str | None = None
    """A running cluster (``auto`` joins the one on this machine). null: inside a Ray job its own cluster, otherwise a local one."""
    num_cpus: int | None = Field(default=None, ge=2)
    """Logical CPUs of a local cluster. null: at least 6, since most actors of a small machine only wait."""
    object_store_gib: float = Field(default=0.5, gt=0)
    """Shared memory of a local cluster's object store, in GiB."""


class Engine(Config):
    """How each vLLM engine uses its machine."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: the run's (docs/models.md): bfloat16 on GPUs; on a CPU bfloat16 where it is multiplied natively and faster, else float32."""
    max_num_seqs: int = Field(default=64, ge=1)
    """Sequences decoded together."""
    kv_cache_gib: float = Field(default=1.0, gt=0)
    """Memory for keys and values on a CPU, in GiB."""
    enforce_eager: bool | None = None
    """null: eager on a CPU, compiled on a GPU."""


class ActorPool(Config):
    """A pool of identical actors that each hold an engine."""

    size: int = Field(default=1, ge=1)
    """Actors in the pool."""
    num_cpus: float = Field(default=1.0, gt=0)
    """CPUs for each actor."""
    num_gpus: int = Field(default=0, ge=0)
    """GPUs for each actor; more than one is tensor parallelism."""
    batch_rows: int = Field(default=32, ge=1)
    """Rows handed to an actor at a time."""
    concurrent_batches: int = Field(default=8, ge=1)
    """Batches in flight to one actor."""


_OWN_KEYS = ("bf16", "fp16", "gradient_accumulation_steps", "gradient_clipping", "managed_gradient_accumulation", "optimizer",
             "scheduler", "train_batch_size", "train_micro_batch_size_per_gpu")  # fmt: skip
"""Keys of a DeepSpeed dictionary that would change what is learnt, or that the training loop decides."""


class TrainWorkers(Config):
    """The workers of one training run."""

    workers: int | tuple[int, int] = 1
    """Data-parallel workers, or the fewest and the most of them: a run then goes on with as many as there is room for."""
    num_cpus: float = Field(default=1.0, gt=0)
    """CPUs reserved for each worker."""
    num_gpus: int = Field(default=0, ge=0, le=1)
    """GPUs for each worker. 0: gloo on the CPU; 1: NCCL."""
    micro_batch_tokens: int = Field(default=2048, ge=16)
    """Tokens a worker puts through the model at once; more need more memory and change no gradient."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """DeepSpeed ZeRO stage."""
    offload: Literal["none", "cpu", "nvme"] = "none"
    """Where ZeRO keeps the optimiser's state, and at stage 3 the weights too, when they do not fit on the GPU."""
    nvme_path: Path | None = None
    """Folder on a fast local disk, for ``offload: nvme``."""
    recompute: Literal["nothing", "layers"] = "nothing"
    """layers: keep no activations inside a layer and compute them again in the backward pass (gradient checkpointing)."""
    kernels: Literal["plain", "compiled", "liger"] = "plain"
    """compiled: norms and gates as one kernel each, by torch.compile; needs a C++ compiler on CPUs. liger: fused Triton kernels for
    norms, rotary embedding and MLPs; needs GPUs and ``liger-kernel``."""
    deepspeed: Mapping[str, Any] = Field(default_factory=dict)
    """Any other keys of DeepSpeed's own configuration, laid over what the keys above make."""
    max_failures: int = Field(default=2, ge=0)
    """Worker losses to survive before the run fails."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Where the metrics of each step go besides ``metrics.jsonl``; each client's own environment variables say how."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        few, many = self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)
        if not 1 <= few <= many:
            raise UserError(f"workers: {self.workers} is no count of at least 1, nor [fewest, most]")
        if self.offload != "none" and self.zero_stage == 0:
            raise UserError(f"offload: {self.offload} needs ZeRO, found zero_stage=0; use 1, 2 or 3")
        if self.offload == "nvme" and (self.nvme_path is None or self.zero_stage != 3):
            raise UserError(f"offload: nvme needs nvme_path and zero_stage=3, found {self.nvme_path} and {self.zero_stage}")
        if not isinstance(zero := self.deepspeed.get("zero_optimization", {}), Mapping):
            raise UserError(f"deepspeed: zero_optimization must be a section of keys, found {zero!r}; use zero_stage, or give its keys")
        if taken := sorted(set(self.deepspeed) & set(_OWN_KEYS)):
            raise UserError(f"deepspeed: {', '.join(taken)} cannot be set here; `finetune` says what is learnt, and the loop sets the rest")
        return self


class Replicas(Config):
    """The serving endpoint."""

    host: str = "127.0.0.1"
    """Interface to listen on; the default is reachable from this machine only."""
    port: int = Field(default=8123, ge=1, le=65535)
    """Port of the OpenAI-compatible endpoint."""
    size: int = Field(default=1, ge=1)
    """Replicas of each model at the start."""
    max_size: int = Field(default=1, ge=1)
    """Replicas of each model under load."""
    models: int = Field(default=4, ge=1)
    """Models that are served together while scores are taken; the others wait for their turn."""
    num_cpus: float = Field(default=1.0, gt=0)
    """CPUs for each replica."""
    num_gpus: int = Field(default=0, ge=0)
    """GPUs for each replica."""


class Harness(Config):
    """lm-eval, a process of its own that asks the endpoint."""

    python: Path | None = None
    """Python interpreter that has ``lm_eval`` installed. null: this one."""
    concurrent_requests: int = Field(default=16, ge=1)
    """Requests in flight to the endpoint."""
    timeout_s: int = Field(default=600, ge=1)
    """Longest wait for an answer, in seconds."""


class JudgeWorkers(Config):
    """Learned metrics, each a task of its own."""

    num_cpus: float = Field(default=1.0, gt=0)
    """CPUs for each."""
    num_gpus: int = Field(default=0, ge=0)
    """GPUs for each."""
    batch_rows: int = Field(default=16, ge=1)
    """Rows judged together."""
    runtime_env: Mapping[str, Any] | None = None
    """Ray runtime environment that has the judge's package, for example ``{py_executable: /path/to/bin/python}``, a Python of the same
    version with the same Ray. null: Ray installs the package with pip."""


class Price(Config):
    """What work costs, in any one currency; what is not priced is free."""

    hour: float = Field(default=0.0, ge=0)
    """An hour of the machines together, while rows are drawn."""
    cpu_hour: float = Field(default=0.0, ge=0)
    """An hour of a CPU that an engine kept busy."""
    gpu_hour: float = Field(default=0.0, ge=0)
    """An hour of a GPU that an engine held."""
    prompt_mtok: float = Field(default=0.0, ge=0)
    """A million prompt tokens."""
    answer_mtok: float = Field(default=0.0, ge=0)
    """A million generated tokens."""


class Placement(Config):
    """Where every stage runs. Changing it never makes an artifact stale."""

    cluster: Cluster = Cluster()
    engine: Engine = Engine()
    synthesize: ActorPool = ActorPool()
    draws: Path | None = None
    """Folder that keeps every drawn row by what it was drawn from; runs may share it. null: ``.draws`` in the run's folder."""
    price: Price | None = None
    """With a price, manifests and the terminal say what drawing rows cost."""
    finetune: TrainWorkers = TrainWorkers()
    serve: Replicas = Replicas()
    lm_eval: Harness = Harness()
    judges: JudgeWorkers = JudgeWorkers()
