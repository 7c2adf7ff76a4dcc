from typing import Literal

from pydantic import Field

from delia_ray.config import Config


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
    resamples: int = Field(default=1000, ge=100)
    """Bootstrap resamples."""
    seed: int = 0
    """Seed of the bootstrap."""
