from pydantic import Field

from delia_ray.config import Config


class MixConfig(Config):
    """How much diverse data stands beside the task data."""

    ratio: float = Field(default=8.0, ge=0)
    """rho: diverse rows for each task row. 0 is plain instruction tuning."""
    seed: int = 0
    """Seed of the draw and of the shuffle. A smaller ratio's draw is contained in a larger one's."""
