from typing import Literal

from pydantic import Field

from delia_ray.config import Config


class Margins(Config):
    """How small a difference of two arms must be to mean nothing: two arms whose 95 % interval lies within are called equivalent."""

    rates: float = Field(default=0.05, gt=0)
    """Of shares of items, such as FormatAcc or exact_match."""
    scores: float = Field(default=0.02, gt=0)
    """Of means of scores from 0 to 1, such as ROUGE-L, COMET or a function of your own."""
    points: float = Field(default=1.0, gt=0)
    """Of corpus scores from 0 to 100: BLEU and chrF++."""
    nats: float = Field(default=0.05, gt=0)
    """Of the drift, in nats a token."""


class ScoreConfig(Config):
    """How much to ask each finished model, greedily, over the live endpoint."""

    split: Literal["test", "dev"] = "test"
    """Items, wordings and everyday prompts to ask. Choose settings on ``dev``; ``test`` shares none of them."""
    no_token: int = Field(default=96, ge=0)
    """Test items asked in plain words that name no token (NoToken, and with it Selectivity)."""
    false_trigger: int = Field(default=48, ge=0)
    """Test items that say not to use the token (FalseTrigger)."""
    plug_play: int = Field(default=32, ge=0, le=32)
    """Prompts of other tasks that ask for the token (PlugPlay)."""
    ordinary: int = Field(default=64, ge=0, le=64)
    """Everyday prompts without the token (Spill, Retention)."""
    max_tokens: int = Field(default=96, ge=1)
    """Longest answer to a task prompt, in tokens."""
    ordinary_tokens: int = Field(default=64, ge=1)
    """Longest answer to an everyday prompt, in tokens."""
    resamples: int = Field(default=1000, ge=1000)
    """Bootstrap resamples."""
    seed: int = 0
    """Seed of the bootstrap, and of a test's draws where there are too many to go through."""
    margins: Margins = Margins()
    """When two arms are called equivalent."""
