"""Configs of the clean stage and of the mix stage."""

from typing import Literal

from pydantic import Field

from delia_ray.core.config import Config
from delia_ray.embedding.config import Encoder, OwnEncoder
from delia_ray.tasks.config import Decontaminate


class MixConfig(Config):
    """How many diverse rows are mixed with how many task rows."""

    ratio: float = Field(default=8.0, ge=0)
    """rho: diverse rows for each task row. 0 is plain instruction tuning."""
    task_rows: int | None = Field(default=None, ge=1)
    """N: training rows of the task to take. They come first in the order of a hash with the seed, so that a smaller N is a subset of a
    larger one. null: all."""
    rows: Literal["mixture", "diverse"] = "mixture"
    """diverse: leave the task's own rows out, as a control."""
    seed: int = 0
    """Seed of the sampling and of the shuffle. The sample of a smaller ratio is a subset of a larger ratio's."""


class SemanticDedup(Config):
    """Semantic deduplication: compare the embedding vectors of rows."""

    cosine: float = Field(default=0.95, ge=0.5, le=1)
    """Rows are duplicates from this cosine on, between the vectors of query and answer together."""
    embeddings: Encoder = OwnEncoder()
    """Encoder that turns texts into vectors."""


class Deduplicate(Config):
    """Deduplication of diverse rows: of each cluster of near-duplicates one row is kept, and the others are rejected. A row that is a
    near-duplicate of a training row of the task is rejected, too."""

    similarity: float = Field(default=0.8, ge=0.3, le=1)
    """Rows are near-duplicates from this Jaccard similarity on, between the runs of three words of query and answer together; in scripts
    without spaces, of three letters."""
    meaning: SemanticDedup | None = None
    """Compare the remaining rows by their embedding vectors, too; every row is then embedded. null: compare words only."""


class CleanConfig(Config):
    """Which rows are removed from the pool; null turns a check off."""

    decontaminate: Decontaminate | None = Decontaminate()
    deduplicate: Deduplicate | None = Deduplicate()
