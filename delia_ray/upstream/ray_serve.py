"""Ray Serve 2.60: the host and port that a running Serve listens on, and the address that replicas listen on.

Its public status does not tell them. Can go when ``serve.status()`` has it:
https://github.com/ray-project/ray/blob/master/python/ray/serve/schema.py.

Every replica takes requests of other deployments, with pickled objects in them, on all interfaces, though others call it by its node's
address. Can go when it listens there:
https://github.com/ray-project/ray/blob/master/python/ray/serve/_private/replica.py.
"""

from typing import Any

import ray
from ray._common.tls_utils import add_port_to_grpc_server
from ray.serve._private import replica
from ray.serve.context import _get_global_client  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]


def get_http_address() -> tuple[str, int]:
    """Return host and port of the Ray Serve that runs on the connected cluster."""
    client: Any = _get_global_client()
    return str(client.http_config.host), int(client.http_config.port)


def listen_on_node_address() -> None:
    """Let the replica of this process listen on its node's address; called as it is constructed, before Serve opens the port."""
    replica.add_port_to_grpc_server = _add_port  # pyright: ignore[reportPrivateImportUsage]


def _add_port(server: Any, address: str) -> int:
    host = ray.util.get_node_ip_address()
    return add_port_to_grpc_server(server, address.replace("[::]", f"[{host}]" if ":" in host else host))
