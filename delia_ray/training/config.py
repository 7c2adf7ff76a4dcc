from typing import Annotated, Literal

from pydantic import Field

from delia_ray.config import Config


class Lora(Config):
    """Low-rank adapters on every linear layer (Hu et al., arXiv 2106.09685)."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(default=16, ge=1)
    """Rank r."""
    alpha: float = Field(default=16.0, gt=0)
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout on the adapters' input."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Layers that get an adapter: all, or names such as ``[q_proj, v_proj]``."""


class Full(Config):
    """Every weight is trained."""

    kind: Literal["full"]


Parameters = Annotated[Lora | Full, Field(discriminator="kind")]


class FinetuneConfig(Config):
    """How to train. Every field changes the result, so every field is in its identity."""

    parameters: Parameters = Lora()
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
    """Longest conversation. A longer row is an error that names it, never cut in silence."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the hardware multiplies it natively, else float32."""
    checkpoint_every: int = Field(default=50, ge=1)
    """Steps between checkpoints of a run in flight."""
    seed: int = 0
    """Seed of dropout, adapter start and row order."""
