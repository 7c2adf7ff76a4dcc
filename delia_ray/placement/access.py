"""Who may use the endpoint, and how much (``placement.serve.access``)."""

from pathlib import Path

from pydantic import Field

from delia_ray.core.config import Config


class Access(Config):
    """Keys and limits of the endpoint. With several ingress replicas each counts for itself."""

    keys: Path | None = None
    """File with an API key in each line. null: the keys in the environment variable DELIA_API_KEYS, separated by commas; without any,
    no key is asked for."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests a minute with one key. null: as many as come."""
    concurrent_requests: int | None = Field(default=None, ge=1)
    """Requests in progress with one key. null: as many as come."""
    max_requests: int | None = Field(default=1024, ge=1)
    """Requests in progress altogether; more are answered with 429. null: as many as come."""
    max_body_mib: float = Field(default=8, gt=0)
    """Largest request, in MiB."""
    body_timeout_s: float = Field(default=30, gt=0)
    """How long a request may take to arrive, in seconds."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest answer, in tokens; a request that asks for more is refused. null: as long as the model's context takes."""
    max_choices: int = Field(default=128, ge=1)
    """Answers that one request may ask for: prompts times ``n``."""
    origins: tuple[str, ...] = ()
    """Origins of web pages that browsers may let use the endpoint (CORS), besides its own page. ``*``: every page."""
