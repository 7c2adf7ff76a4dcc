"""Config of the probe of the theory's predictions."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from delia_ray.core.config import Config
from delia_ray.probing.tokens.config import TokenProbeConfig


class ProbeConfig(Config):
    """Settings of the measurements for the predictions P1 to P5 of the theory (``docs/probing.md``)."""

    rows: int = Field(default=24, ge=4)
    """Diverse queries whose gradients are computed, and as many of the task's training rows, if there are that many."""
    foreign: Path | None = None
    """File of rows with ``query`` and ``reference``: foreign answers, to compare with the model's own answers to the same queries.
    null: every query gets the pool's answer to another query."""
    answer_tokens: int = Field(default=32, ge=1)
    """Longest answer sampled at temperature 1, in tokens; a longer one is cut and still counts."""
    parameters: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Weights to examine: those of all linear layers except the output layer, or patterns such as ``[*.layers.2?.*.o_proj.weight]``."""
    coordinates: int | None = Field(default=2**20, ge=16)
    """Coordinates of those weights to sample with ``seed``, for the estimates of norms, cosines and eigenvectors. null: all."""
    step_lengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(3e-5, 1e-4, 3e-4, 1e-3), min_length=2)
    """Lengths of the step down the task's gradient, as fractions of the weights' norm, ascending. LoRA for 40 steps moves them by 3e-3."""
    fisher_rows: int = Field(default=8, ge=3)
    """Rows, of the ``rows``, from which the Fisher matrix is computed."""
    eigenvectors: int = Field(default=4, ge=1)
    """Top eigenvectors of the Fisher matrix to project updates on."""
    iterations: int = Field(default=16, ge=2)
    """Maximal number of products with the Fisher matrix to find the eigenvectors."""
    held_out: int = Field(default=48, ge=0)
    """Diverse rows that no arm was trained on; the arms are compared with the base model along their answers."""
    resamples: int = Field(default=1000, ge=1000)
    """Bootstrap resamples of the comparison on held-out rows."""
    seed: int = 0
    """Seed of the chosen rows, the sampled answers and the sampled coordinates."""
    tokens: TokenProbeConfig | None = None
    """Probe of the meaning of the task's new token. null: only with `delia probe tokens`; if given, `delia run` probes it, too."""
