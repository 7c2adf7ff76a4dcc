from pydantic import Field

from delia_ray.config import Config
from delia_ray.tasks.config import Decontaminate


class MixConfig(Config):
    """How much diverse data stands beside the task data."""

    ratio: float = Field(default=8.0, ge=0)
    """rho: diverse rows for each task row. 0 is plain instruction tuning."""
    seed: int = 0
    """Seed of the draw and of the shuffle. A smaller ratio's draw is contained in a larger one's."""


class Deduplicate(Config):
    """When diverse rows say the same; all but one of them are left out and listed, and what a task's training row says already."""

    similarity: float = Field(default=0.8, ge=0.3, le=1)
    """Jaccard similarity of runs of three words of query and answer together, from which on rows are near-duplicates."""


class CleanConfig(Config):
    """What the pool is cleared of; null leaves it in."""

    decontaminate: Decontaminate | None = Decontaminate()
    deduplicate: Deduplicate | None = Deduplicate()
