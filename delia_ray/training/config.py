from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from delia_ray.config import Config
from delia_ray.errors import UserError


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
    quantised: bool = False
    """Keep the frozen weights in 4 bits (QLoRA, Dettmers et al., arXiv 2305.14314). Needs a GPU and ``bitsandbytes``."""


class Full(Config):
    """Every weight is trained."""

    kind: Literal["full"]


class TokenOnly(Config):
    """Nothing but the new token's rows is trained."""

    kind: Literal["token_only"]


Parameters = Annotated[Lora | Full | TokenOnly, Field(discriminator="kind")]


class Sft(Config):
    """Cross-entropy of the rows' own tokens."""

    kind: Literal["sft"] = "sft"


class Kl(Config):
    """Cross-entropy on task rows; on diverse rows beta * KL(theta0 || theta), along the stored answers (METHOD 2 and 6).

    The start model is the same model with its adapter and new rows switched off, so there is no second copy.
    """

    kind: Literal["kl"]
    beta: float = Field(default=1.0, gt=0)
    """Weight of a diverse token against a task token."""


class Neftune(Config):
    """Cross-entropy under uniform noise on the input embeddings (Jain et al., arXiv 2310.05914)."""

    kind: Literal["neftune"]
    alpha: float = Field(default=5.0, gt=0)
    """Noise is uniform in +-alpha / sqrt(T * D), for a row of T tokens of D dimensions."""


Objective = Annotated[Sft | Kl | Neftune, Field(discriminator="kind")]


class FinetuneConfig(Config):
    """How to train. Every field changes the result, so every field is in its identity."""

    parameters: Parameters = Lora()
    objective: Objective = Sft()
    learn: Literal["answer", "conversation"] = "answer"
    """answer: the last assistant turn and its end. conversation: every token, the prompt's too."""
    order: Literal["shuffled", "task_first", "task_last"] = "shuffled"
    """How task and diverse rows follow each other within an epoch."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate, constant after the warm-up."""
    token_learning_rate: float | None = Field(default=None, gt=0)
    """Learning rate of the new token's rows. null: the same."""
    warmup_steps: int = Field(default=25, ge=0)
    """Steps of linear warm-up."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled decay; the new rows have none."""
    gradient_clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient of a step."""
    batch_rows: int = Field(default=16, ge=1)
    """Rows of one optimiser step over all workers (B)."""
    epochs: float = Field(default=1.0, gt=0)
    """Passes over the mixture at ``mix.ratio``; sets the number of steps, which every arm takes alike."""
    max_row_tokens: int = Field(default=1024, ge=8)
    """Longest conversation, in tokens."""
    long_rows: Literal["refuse", "truncate", "drop"] = "refuse"
    """What happens to a longer one: an error that names it, the loss of its end (of the row, if no answer is left), or the loss of the row.

    The counts say how many.
    """
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 on GPUs; on a CPU bfloat16 where it is multiplied natively and faster, else float32. Decided once for a run."""
    checkpoint_every: int = Field(default=50, ge=1)
    """Steps between checkpoints of a run in flight."""
    seed: int = 0
    """Seed of dropout, adapter start and row order."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if isinstance(self.objective, Kl) and not isinstance(self.parameters, Lora):
            raise UserError(
                f"objective.kind: kl switches the adapter off for its reference; found parameters.kind={self.parameters.kind}, use lora"
            )
        return self
