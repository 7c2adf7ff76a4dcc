"""Ray 2.60: what its autoscaler may still start, and the address of a cluster of this machine; no public function has either.

The second version of the autoscaler (``ray up`` and KubeRay) names the placement groups that can never be placed; of the first one only the
names of its node types can be read: without a provider they are the ids of the nodes. Can go when Ray documents an interface:
https://github.com/ray-project/ray/blob/master/python/ray/autoscaler/v2/sdk.py.

Ray replaces 127.0.0.1 as a node's address by one that others reach, and listens there, or everywhere, for whoever sends pickled objects. On
macOS and Windows it stays on the loopback, which a variable decides. Can go when ``ray.init`` takes the address:
https://github.com/ray-project/ray/blob/master/python/ray/_private/services.py.
"""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import ray_constants
from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]  compiled
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # pyright: ignore[reportAttributeAccessIssue]  generated
from ray.experimental.internal_kv import _internal_kv_get  # pyright: ignore[reportPrivateUsage]

_STATUS_OF_FIRST_VERSION = "__autoscaling_status"
_STATIC_NODE_TYPE = "node_"


@dataclass(frozen=True)
class Autoscaler:
    """What the cluster's autoscaler says of itself."""

    can_grow: bool
    """Whether it may start nodes."""
    starting: tuple[str, ...] = ()
    """Types of the nodes that it is starting."""
    failed: tuple[str, ...] = ()
    """Why nodes could not be started, one line each."""
    impossible: tuple[str, ...] = ()
    """Details of the placement groups that no node that may be added has room for."""


def read_autoscaler() -> Autoscaler:
    """Read the state of the connected cluster's autoscaler."""
    client: Any = GcsClient(ray.get_runtime_context().gcs_address)
    reply: Any = GetClusterStatusReply()
    reply.ParseFromString(client.get_cluster_status())
    state = reply.autoscaling_state
    if state.autoscaler_state_version:
        requested = [each.ray_node_type_name for each in state.pending_instance_requests for _ in range(each.count)]
        return Autoscaler(
            True,
            (*(each.ray_node_type_name for each in state.pending_instances), *requested),
            tuple(f"{each.ray_node_type_name}: {each.reason}" for each in state.failed_instance_requests),
            tuple(each.details for each in state.infeasible_gang_resource_requests),
        )
    status = _internal_kv_get(_STATUS_OF_FIRST_VERSION)
    report = (json.loads(status) if status else {}).get("autoscaler_report") or {}
    starting = [node_type for _, node_type, _ in report.get("pending_nodes") or ()] + list(report.get("pending_launches") or ())
    failed = tuple(f"{node_type}: failed" for _, node_type in report.get("failed_nodes") or ())
    types = {*(report.get("active_nodes") or ()), *(report.get("idle_nodes") or ())}
    return Autoscaler(any(not name.startswith(_STATIC_NODE_TYPE) for name in types), tuple(starting), failed)


@contextmanager
def listening_on_loopback() -> Generator[None]:
    """Let a cluster that the block starts on this machine listen on the loopback alone."""
    variable, value = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    before = os.environ.get(variable)
    os.environ[variable] = "0"  # for the processes that Ray starts
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = value
        del os.environ[variable]
        if before is not None:
            os.environ[variable] = before
