"""Workers of a training run (``placement.finetune``)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.placement.bounds import Count, get_bounds

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

    workers: Count = 1
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

    @property
    def least(self) -> int:
        """Workers to begin with."""
        return get_bounds(self.workers)[0]

    @property
    def most(self) -> int:
        """Workers at most."""
        return get_bounds(self.workers)[1]

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
