"""Who may use an endpoint, and what else it serves."""

from dataclasses import dataclass, field
from pathlib import Path

from delia_ray.placement import Access
from delia_ray.serving.http.keys import ApiKeys


@dataclass(frozen=True)
class EndpointOptions:
    """Keys and limits of an endpoint, and whether it also serves what is finished later."""

    access: Access = field(default_factory=Access)
    keys: ApiKeys = field(default_factory=lambda: ApiKeys(()))
    run: Path | None = None
    """Folder of the run whose models are served as they are finished, where they are adapters."""
