"""Ray Serve 2.60: the port that a running Serve listens on, which its public status does not tell.

Can go when ``serve.status()`` has it: https://github.com/ray-project/ray/blob/master/python/ray/serve/schema.py.
"""

from typing import Any

from ray.serve.context import _get_global_client  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]


def get_http_port() -> int:
    """Return the port of the Ray Serve that runs on the connected cluster."""
    client: Any = _get_global_client()
    return int(client.http_config.port)
