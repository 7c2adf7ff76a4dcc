"""A node provider for Ray's autoscaler whose machines are processes of this one.

Each node is a real raylet with a home folder, caches and runtime environments of its own; what the provider's ``hidden`` lists, such as
the head's home, is empty on it. Only ``shared`` folders are the same everywhere.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from threading import RLock
from typing import Any

from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

HEAD = "0" * 56
"""The head's id, for the provider and for Ray."""
_STOP_SECONDS = 10


class ProcessNodeProvider(NodeProvider):
    """Ray's interface of a cloud: start, list and end nodes."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str):
        super().__init__(provider_config, cluster_name)
        self._lock = RLock()
        self._tags: dict[str, dict[str, str]] = {HEAD: {TAG_RAY_NODE_KIND: NODE_KIND_HEAD, TAG_RAY_USER_NODE_TYPE: "head"}}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        return cluster_config

    def non_terminated_nodes(self, tag_filters: Mapping[str, str]) -> list[str]:
        with self._lock:
            for node, process in list(self._processes.items()):
                if process.poll() is not None:  # killed by a test, as a spot machine that is taken away
                    del self._processes[node], self._tags[node]
            return [node for node, tags in self._tags.items() if tag_filters.items() <= tags.items()]

    def is_running(self, node_id: str) -> bool:
        return node_id in self._tags

    def is_terminated(self, node_id: str) -> bool:
        return node_id not in self._tags

    def node_tags(self, node_id: str) -> dict[str, str]:
        return self._tags[node_id]

    def set_node_tags(self, node_id: str, tags: Mapping[str, str]) -> None:
        self._tags[node_id].update(tags)

    def internal_ip(self, node_id: str) -> str:
        return node_id

    def external_ip(self, node_id: str) -> str:
        return node_id

    def create_node_with_resources_and_labels(
        self, node_config: Mapping[str, Any], tags: Mapping[str, str], count: int, resources: Mapping[str, float], labels: Mapping[str, str]
    ) -> None:
        for _ in range(count):
            with self._lock:
                node = os.urandom(28).hex()
                self._processes[node] = start_node(self.provider_config, node, tags[TAG_RAY_USER_NODE_TYPE], resources)
                self._tags[node] = dict(tags)

    def terminate_node(self, node_id: str) -> None:
        with self._lock:
            process = self._processes.pop(node_id)
            del self._tags[node_id]
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def start_node(config: Mapping[str, Any], node: str, node_type: str, resources: Mapping[str, float]) -> "subprocess.Popen[bytes]":
    """Start a raylet that joins the cluster at ``config["gcs_address"]``.

    Args:
        config: the provider's: ``gcs_address``, ``folder`` for homes and logs, ``hidden`` folders.
        node: its id.
        node_type: its type's name in the cluster's YAML.
        resources: ``CPU``, ``GPU`` and others.
    """
    home = Path(config["folder"], "nodes", node[:8])
    home.mkdir(parents=True)
    flags = {"CPU": "num-cpus", "GPU": "num-gpus", "memory": "memory", "object_store_memory": "object-store-memory"}
    arguments = [f"--{flags[name]}={int(amount)}" for name, amount in resources.items() if name in flags]
    others = {name: amount for name, amount in resources.items() if name not in flags}
    start = ["ray", "start", f"--address={config['gcs_address']}", "--block", "--dashboard-agent-listen-port=0", *arguments]
    environment = {
        **os.environ,
        "HOME": str(home),
        "RAY_CLOUD_INSTANCE_ID": node,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node,
        "RAY_NODE_TYPE_NAME": node_type,
        "RAY_OVERRIDE_RESOURCES": json.dumps(others),
    }
    for name in ("HF_HOME", "DELIA_CACHE", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    log = (home / "ray.log").open("wb")
    # Working folders of jobs: each node deletes its own.
    packages = Path(config["folder"], "ray", "session_latest").resolve() / "runtime_resources"
    return subprocess.Popen(
        _isolate(start, [*config["hidden"], str(packages)]), env=environment, stdout=log, stderr=log, start_new_session=True
    )


def _isolate(command: list[str], hidden: list[str]) -> list[str]:
    """Wrap ``command`` so that the ``hidden`` folders are empty for it, where this machine lets us (as root)."""
    if os.geteuid() != 0:
        return command
    mounts = " && ".join(["mount --make-rprivate /", *(f"mount -t tmpfs tmpfs '{folder}'" for folder in hidden)])
    return ["unshare", "--mount", "bash", "-c", f'{mounts} && exec "$@"', "node", *command]
