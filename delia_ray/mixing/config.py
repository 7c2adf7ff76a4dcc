from typing import Literal

from pydantic import Field

from delia_ray.config import Config
from delia_ray.embedding.config import Encoder, OwnEncoder
from delia_ray.tasks.config import Decontaminate


class MixConfig(Config):
    """How much diverse data stands beside the task data."""

    ratio: float = Field(default=8.0, ge=0)
    """rho: diverse rows for each task row. 0 is plain instruction tuning."""
    task_rows: int | None = Field(default=None, ge=1)
    """N: training rows of the task to take, the first under a hash of the seed, so that fewer are among more. null: all."""
    rows: Literal["mixture", "diverse"] = "mixture"
    """diverse: leave the task's own rows out, as a control."""
    seed: int = 0
    """Seed of the draw and of the shuffle. A smaller ratio's draw is contained in a larger one's."""


class Meaning(Config):
    """When rows say the same in other words."""

    cosine: float = Field(default=0.95, ge=0.5, le=1)
    """Of the vectors of query and answer together, from which on they do."""
    embeddings: Encoder = OwnEncoder()
    """What makes texts into vectors."""


class Deduplicate(Config):
    """When diverse rows say the same; all but one of them are left out and listed, and what a task's training row says already."""

    similarity: float = Field(default=0.8, ge=0.3, le=1)
    """Jaccard similarity of runs of three words of query and answer together, in scripts without spaces of three letters, from which
    on rows are near-duplicates."""
    meaning: Meaning | None = None
    """Compare what is left by its meaning, too; every row then becomes a vector. null: words alone."""


class CleanConfig(Config):
    """What the pool is cleared of; null leaves it in."""

    decontaminate: Decontaminate | None = Decontaminate()
    deduplicate: Deduplicate | None = Deduplicate()
