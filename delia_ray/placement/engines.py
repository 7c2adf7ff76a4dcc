"""vLLM engines: their arguments (``placement.engine``), pools that generate (``placement.synthesize``) and replicas that serve
(``placement.serve``)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.placement.access import Access
from delia_ray.placement.bounds import Count, get_bounds


class Engine(Config):
    """Resources and arguments of each vLLM engine."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: the precision of the run (docs/models.md): bfloat16 on GPUs; on a CPU bfloat16 if it is native and faster, else float32."""
    max_num_seqs: int = Field(default=64, ge=1)
    """Maximum number of sequences in a batch."""
    kv_cache_gib: float = Field(default=1.0, gt=0)
    """KV cache of an engine on a CPU, in GiB."""
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    """Share of a GPU's memory that an engine takes. null: vLLM's default, or nine tenths of the part of a GPU that it reserves."""
    max_model_len: int | None = Field(default=None, ge=64)
    """Longest prompt and answer together, in tokens, in generation. null: twice the longest answer, at least 2,048, at most what the model
    takes. The endpoint holds a row of ``finetune.max_seq_len`` and an answer."""
    enforce_eager: bool | None = None
    """Whether to run eagerly, without compilation. null: eager on a CPU, compiled on a GPU."""
    sampler: Literal["auto", "vllm", "cpu"] = "auto"
    """Which code samples with top-p when diverse data are generated; both have the same distribution. vllm: its own seeded sampler.
    cpu: an exact one that sorts a few hundred candidates instead of the vocabulary. auto: vllm on GPUs, cpu on CPUs."""


class EngineResources(Config):
    """Resources that every engine of a stage reserves."""

    num_cpus: float = Field(default=1.0, gt=0)
    """CPUs for each engine."""
    num_gpus: float = Field(default=0, ge=0)
    """GPUs for each engine. 0: the CPU; a part, such as 0.3: engines share a GPU; more than one: tensor parallel, on one node."""
    pipeline_parallel: int = Field(default=1, ge=1)
    """Stages that an engine's layers are divided into, each on ``num_gpus`` GPUs, which can be those of another node."""

    @property
    def on_cpu(self) -> bool:
        """Whether engines compute on CPUs."""
        return self.num_gpus == 0

    @property
    def processes(self) -> int:
        """Processes of an engine, each with a GPU or a part of one; 1 on a CPU."""
        return max(1, int(self.num_gpus)) * self.pipeline_parallel

    @property
    def gpus_of_process(self) -> float:
        """GPUs that a process of an engine reserves."""
        return min(1.0, self.num_gpus)

    @property
    def total_gpus(self) -> float:
        """GPUs of all processes of an engine."""
        return self.gpus_of_process * self.processes

    @model_validator(mode="after")
    def _check_gpus(self) -> Self:
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise UserError(f"num_gpus: {self.num_gpus:g} is neither a whole number nor a part of one GPU; round it")
        if self.pipeline_parallel > 1 and self.num_gpus < 1:
            raise UserError(
                f"pipeline_parallel: {self.pipeline_parallel} stages need whole GPUs, found num_gpus={self.num_gpus:g}; set it to 1"
            )
        return self


class ActorPool(EngineResources):
    """Ray Data actor pool in which each actor holds an engine."""

    size: Count = 1
    """Actors in the pool, or [minimum, maximum]: generation begins with the minimum, and more start as the cluster grows."""
    batch_rows: int = Field(default=32, ge=1)
    """Rows in a batch for an actor."""
    concurrent_batches: int = Field(default=8, ge=1)
    """Batches in flight to one actor."""

    @property
    def least(self) -> int:
        """Actors to begin with."""
        return get_bounds(self.size)[0]

    @property
    def most(self) -> int:
        """Actors at most."""
        return get_bounds(self.size)[1]


Quantization = Literal["fp8", "bitsandbytes"]
"""How an engine quantizes weights when it loads them."""


class Replicas(EngineResources):
    """Replicas of the Ray Serve endpoint."""

    host: str = "127.0.0.1"
    """Network interface to listen on; the default is reachable only from this machine."""
    port: int = Field(default=8123, ge=1, le=65535)
    """Port of the OpenAI-compatible endpoint."""
    size: int = Field(default=1, ge=1)
    """Initial number of replicas of each model."""
    max_size: int = Field(default=1, ge=1)
    """Maximum number of replicas of each model under load."""
    form: Literal["auto", "merged", "adapter"] = "auto"
    """What engines load. merged: each model its own weights. adapter: one engine the base model and an adapter for each model that has
    one which vLLM takes. auto: adapter on GPUs; merged on CPUs, where adapters take about twice the time."""
    quantization: Quantization | None = None
    """Quantizes the weights that `delia serve` loads, for smaller GPUs; scores are of the model as it is stored. fp8: 8 bits,
    on GPUs of compute capability 8.9 or higher. bitsandbytes: 4 bits; needs the package ``vllm-bnb-plugin`` on the workers. Exports with
    it are compared so, too."""
    tool_parser: str | None = None
    """vLLM's parser of the model's calls of tools, such as ``hermes`` or ``llama3_json``. null: ``tool_choice: auto`` is refused."""
    access: Access = Access()
    """Keys and limits of `delia serve`; the endpoint that scoring opens is on this machine alone and has none."""
    patience_s: float = Field(default=600.0, ge=0)
    """How long scoring waits for an endpoint that does not answer, in seconds: a replica that died is replaced and loads its model."""
    models: int = Field(default=4, ge=1)
    """Models served at the same time during evaluation; the others wait."""

    @property
    def prefers_adapters(self) -> bool:
        """Whether models are served as adapters, where they have one."""
        return self.form == "adapter" or (self.form == "auto" and not self.on_cpu)
