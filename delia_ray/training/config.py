"""Configuration of fine-tuning: the trained parameters, the objective, and the optimization."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from delia_ray.core.config import Config
from delia_ray.core.errors import UserError


class Lora(Config):
    """Low-rank adapters on linear layers (Hu et al., arXiv 2106.09685)."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(default=16, ge=1)
    """Rank r."""
    alpha: float = Field(default=16.0, gt=0)
    """Scale: the update is multiplied by alpha / r, or by alpha / sqrt(r) for ``rslora``."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout on the adapters' input."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Layers that get an adapter: all, or names such as ``[q_proj, v_proj]``."""
    variant: Literal["plain", "rslora", "dora"] = "plain"
    """rslora: Kalajdzievski, arXiv 2312.03732. dora: Liu et al., arXiv 2402.09353."""
    load_in_4bit: bool = False
    """Keep the frozen weights in 4 bits (QLoRA, Dettmers et al., arXiv 2305.14314). Needs a GPU and ``bitsandbytes``."""


class Full(Config):
    """Full fine-tuning: every weight is trained."""

    kind: Literal["full"]


class TokenOnly(Config):
    """Only the new token embeddings are trained."""

    kind: Literal["token_only"]


Parameters = Annotated[Lora | Full | TokenOnly, Field(discriminator="kind")]


def trains_adapter(parameters: Parameters) -> bool:
    """Whether what is trained can be exported as an adapter (``export.adapter``), which an engine loads together with others."""
    return not isinstance(parameters, Full) and not (isinstance(parameters, Lora) and parameters.variant == "dora")


class Sft(Config):
    """Supervised fine-tuning: cross-entropy of the supervised tokens."""

    kind: Literal["sft"] = "sft"


class Kl(Config):
    """Cross-entropy on task rows; on diverse rows beta * KL(base || trained) along the stored answers (docs/method.md, Theory).

    The base model is the trained model with its adapter and new token embeddings disabled, so no second copy is held.
    """

    kind: Literal["kl"]
    beta: float = Field(default=1.0, gt=0)
    """Weight of a diverse token relative to a task token."""


class Neftune(Config):
    """NEFTune: cross-entropy with uniform noise on the input embeddings (Jain et al., arXiv 2310.05914)."""

    kind: Literal["neftune"]
    alpha: float = Field(default=5.0, gt=0)
    """Noise is uniform in +-alpha / sqrt(T * D), for a row of T tokens and hidden size D."""


Objective = Annotated[Sft | Kl | Neftune, Field(discriminator="kind")]


class FinetuneConfig(Config):
    """Configuration of fine-tuning. Every field changes the result, so every field is part of the checkpoint's identity."""

    parameters: Parameters = Lora()
    objective: Objective = Sft()
    train_on: Literal["answer", "conversation"] = "answer"
    """Supervised tokens. answer: the last assistant turn and its end-of-turn token. conversation: every token, the prompt's too."""
    order: Literal["shuffled", "task_first", "task_last"] = "shuffled"
    """Order of task and diverse rows within an epoch."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate, constant after warmup."""
    token_learning_rate: float | None = Field(default=None, gt=0)
    """Learning rate of the new token embeddings. null: the same as ``learning_rate``."""
    warmup_steps: int = Field(default=25, ge=0)
    """Steps of linear warmup."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled weight decay; the new token embeddings have none."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradient clipping: the largest 2-norm of a step's gradient."""
    global_batch_size: int = Field(default=16, ge=1)
    """Rows of one optimizer step, over all workers."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the mixture at ``mix.ratio``; sets the number of steps, which is the same for every arm."""
    max_seq_len: int = Field(default=1024, ge=8)
    """Maximum length of a row, in tokens."""
    long_rows: Literal["refuse", "truncate", "drop"] = "refuse"
    """Handling of longer rows. refuse: an error that names the row. truncate: cut its end, and drop it if no answer is left. drop: drop it.

    The artifact's counts say how many rows were truncated or dropped.
    """
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 on GPUs; on a CPU bfloat16 where matrix products in it are native and faster, else float32. Decided once for a run."""
    checkpoint_every: int = Field(default=50, ge=1)
    """Steps between checkpoints of a running training."""
    seed: int = 0
    """Seed of dropout, adapter initialization and row order."""

    @model_validator(mode="after")
    def _check_kl_needs_lora(self) -> Self:
        if isinstance(self.objective, Kl) and not isinstance(self.parameters, Lora):
            raise UserError(
                f"objective.kind: kl switches the adapter off for its reference; found parameters.kind={self.parameters.kind}, use lora"
            )
        return self
