"""Who may use an endpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from delia_ray.placement import Access


@dataclass(frozen=True)
class Entrance:
    """Keys and limits of an endpoint, and whether it also serves what is finished later."""

    access: Access = field(default_factory=Access)
    keys: Sequence[str] = ()
    run: Path | None = None
    """Folder of the run whose models are served as they are finished, where they are adapters."""
