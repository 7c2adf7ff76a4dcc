from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from delia_ray.config import Config
from delia_ray.probing.token_config import TokenProbe


class ProbeConfig(Config):
    """How the predictions P1 to P5 of the theory are measured (``docs/probing.md``)."""

    rows: int = Field(default=24, ge=4)
    """Diverse queries whose gradients are taken, and as many of the task's training rows, where there are that many."""
    foreign: Path | None = None
    """File of rows with ``query`` and ``reference``: others' answers, to compare the model's own with, to the same queries.
    null: every query gets the pool's answer to another one."""
    answer_tokens: int = Field(default=32, ge=1)
    """Longest answer drawn at temperature 1, in tokens; a longer one counts as far as it goes."""
    parameters: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Weights to look at: those of all linear layers but the output's, or patterns such as ``[*.layers.2?.*.o_proj.weight]``."""
    coordinates: int | None = Field(default=2**20, ge=16)
    """So many of those weights' numbers, drawn by ``seed``, stand for all of them in norms, cosines and eigenvectors. null: all."""
    step_lengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(3e-5, 1e-4, 3e-4, 1e-3), min_length=2)
    """Lengths of the step down the task's gradient, as shares of the weights' norm, rising. LoRA for 40 steps moves them by 3e-3."""
    fisher_rows: int = Field(default=8, ge=3)
    """Rows, of the ``rows``, whose Fisher matrix is taken."""
    eigenvectors: int = Field(default=4, ge=1)
    """Top eigenvectors of the Fisher matrix to project updates on."""
    iterations: int = Field(default=16, ge=2)
    """Most products with the Fisher matrix to find them with."""
    held_out: int = Field(default=48, ge=0)
    """Diverse rows that no arm was trained on, along whose answers the arms are compared with the start model."""
    resamples: int = Field(default=1000, ge=1000)
    """Bootstrap resamples of the comparison on held-out rows."""
    seed: int = 0
    """Seed of what is chosen and drawn."""
    tokens: TokenProbe | None = None
    """The meaning of the task's new token. null: only when asked for (`delia probe tokens`); given, `delia run` probes it, too."""
