"""The ``score`` section of a config: how many prompts each probe has, the limits of answers, and the statistics' settings."""

from typing import Literal

from pydantic import Field

from delia_ray.core.config import Config


class Margins(Config):
    """Equivalence margins: two arms are equivalent if the 95 % interval of their difference lies within plus and minus the margin."""

    rates: float = Field(default=0.05, gt=0)
    """Margin for proportions of items, such as Format on request (``format_acc``) or ``exact_match``."""
    scores: float = Field(default=0.02, gt=0)
    """Margin for means of scores from 0 to 1, such as ROUGE-L, COMET or a custom metric."""
    points: float = Field(default=1.0, gt=0)
    """Margin for corpus scores from 0 to 100: BLEU and chrF++."""
    nats: float = Field(default=0.05, gt=0)
    """Margin for the KL divergence from the base model (drift), in nats a token."""


class ScoreConfig(Config):
    """Which prompts each finished model answers, greedily, over the live endpoint, and how intervals are computed."""

    split: Literal["test", "dev"] = "test"
    """Split of the items, wordings and everyday prompts. Choose settings on ``dev``; ``test`` shares none of them."""
    no_token: int = Field(default=96, ge=0)
    """Number of test items asked in plain words: Format without the token (``no_token``), and with it ``selectivity``."""
    false_trigger: int = Field(default=48, ge=0)
    """Number of test items that say not to use the token: False trigger (``false_trigger``)."""
    plug_play: int = Field(default=32, ge=0, le=32)
    """Number of prompts of other tasks that name the token: Plug and play (``plug_play``)."""
    ordinary: int = Field(default=64, ge=0, le=64)
    """Number of everyday prompts without the token: Spill (``spill``), Drift (``retention_kl``) and Answers kept (``retention_match``)."""
    max_tokens: int = Field(default=96, ge=1)
    """Longest answer to a task prompt, in tokens."""
    ordinary_tokens: int = Field(default=64, ge=1)
    """Longest answer to an everyday prompt, in tokens."""
    resamples: int = Field(default=1000, ge=1000)
    """Number of bootstrap resamples."""
    seed: int = 0
    """Seed of the bootstrap, and of the permutation test where it draws patterns at random."""
    margins: Margins = Margins()
    """Equivalence margins of the comparison of two arms."""
