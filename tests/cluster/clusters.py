"""A cluster of the shipped shape on this machine: a head without CPUs, token authentication, workers from zero that share no disk."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from nodes import HEAD

TOKEN = "0123456789abcdef0123456789abcdef"
_START_SECONDS = 60


@dataclass(frozen=True)
class TestCluster:
    """A running cluster."""

    __test__ = False

    folder: Path
    address: str
    """Of its dashboard, ``http://127.0.0.1:PORT``."""
    gcs_address: str
    environment: Mapping[str, str]
    """Of a user's terminal: the token, the home folder, the PATH."""

    @property
    def shared(self) -> Path:
        """A folder that all nodes see, as NFS."""
        return self.folder / "shared"

    @property
    def home(self) -> Path:
        """The head's home, which no worker sees."""
        return self.folder / "home"

    def run(self, *command: str, cwd: Path | None = None, timeout: float = 900) -> "subprocess.CompletedProcess[str]":
        """Run a command in the user's terminal, on the head's machine."""
        return subprocess.run(
            command, cwd=cwd or self.home, env=dict(self.environment), capture_output=True, text=True, timeout=timeout, check=False
        )

    def list_nodes(self) -> list[Path]:
        """The home folders of all workers that were ever started."""
        return sorted((self.folder / "nodes").glob("*"))

    def kill_workers(self) -> None:
        """Kill every process of every worker that is up, as when a cloud takes its machines away."""
        marks = {f"HOME={home}".encode() for home in self.list_nodes()}
        _kill_processes(lambda environment: bool(marks & environment))

    def kill_driver(self, run: str) -> None:
        """Kill the driver of the job that works on ``run``, as when the head loses it."""
        mark = f"RAY_TMPDIR={self.folder}".encode()
        _kill_processes(
            lambda environment: mark in environment, lambda words: b"delia_ray" in words and f"run.name={run}".encode() in words
        )

    def announce_end_of_workers(self, seconds: int) -> None:
        """Tell Ray that a cloud takes every worker away in so many seconds."""
        drain = ["ray", "drain-node", "--address", self.gcs_address, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
        drain += ["--reason-message", "the cloud needs it", "--deadline-remaining-seconds", str(seconds)]
        for node in self.list_workers():
            self.run(*drain, "--node-id", node).check_returncode()

    def list_workers(self) -> list[str]:
        """The ids of the workers that are up, from the state of the cluster."""
        code = (
            "import json, ray; ray.init(address='auto', log_to_driver=False);"
            "print(json.dumps([node['NodeID'] for node in ray.nodes() if node['Alive'] and node['Resources'].get('CPU')]))"
        )
        return json.loads(self._ask(code))

    @contextmanager
    def fill_object_stores(self) -> Generator[None]:
        """Let another job keep objects in every worker's object store, until nothing else fits beside them."""
        script = Path(__file__).parent / "full_object_store.py"
        environment = {**self.environment, "RAY_ADDRESS": self.gcs_address}
        with subprocess.Popen([sys.executable, str(script)], env=environment, cwd=self.home) as job:
            yield
            job.terminate()

    def count_workers(self) -> int:
        """The workers that are up, from the state of the cluster."""
        return len(self.list_workers())

    def list_actors_and_tasks(self) -> list[dict[str, Any]]:
        """All actors and tasks of all jobs, with their node."""
        code = (
            "import json, ray; from ray.util.state import list_actors, list_tasks; ray.init(address='auto', log_to_driver=False);"
            "rows = [(a.class_name, a.node_id, a.state) for a in list_actors(limit=10000)];"
            "rows += [(t.name, t.node_id, t.state) for t in list_tasks(limit=10000)];"
            "print(json.dumps([dict(zip(('name', 'node', 'state'), row)) for row in rows]))"
        )
        return json.loads(self._ask(code))

    def _ask(self, code: str) -> str:
        environment = {**self.environment, "RAY_ADDRESS": self.gcs_address}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return next(line for line in reversed(done.stdout.splitlines()) if line.startswith(("[", "{")))  # Ray may say something after it


@contextmanager
def start_cluster(
    folder: Path,
    node_types: Mapping[str, Mapping[str, Any]],
    *,
    idle_minutes: float = 0.5,
    environment: Mapping[str, str] | None = None,
    hidden: Sequence[Path] = (),
) -> Generator[TestCluster]:
    """Start a head in ``folder``; the autoscaler starts nodes of ``node_types`` when work asks for them.

    Args:
        folder: a short path, since sockets lie below it.
        node_types: name -> ``resources``, ``min_workers``, ``max_workers``, as in a cluster's YAML.
        environment: variables of the user's terminal and of all nodes.
        hidden: folders, besides the head's home, that are another, empty folder on every worker.
    """
    for name in ("shared", "home", "nodes"):
        (folder / name).mkdir(parents=True)
    address, port = _own_address(), _free_port()
    variables = {**_environment(folder), **(environment or {})}
    cluster = TestCluster(folder, f"http://127.0.0.1:{_free_port()}", f"{address}:{port}", variables)
    config = folder / "cluster.yaml"
    config.write_text(yaml.safe_dump(_cluster_config(cluster, node_types, idle_minutes, [cluster.home, *hidden])))
    command = ["ray", "start", "--head", "--block", f"--port={port}", "--num-cpus=0", "--num-gpus=0", "--object-store-memory=200000000"]
    command += [
        f"--dashboard-port={cluster.address.rpartition(':')[2]}",
        f"--autoscaling-config={config}",
        "--dashboard-agent-listen-port=0",
    ]
    head_environment = {
        **cluster.environment,
        "RAY_enable_autoscaler_v2": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
        "RAY_NODE_TYPE_NAME": "head",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH")))),
    }
    with (folder / "head.log").open("wb") as log:
        head = subprocess.Popen(command, env=head_environment, stdout=log, stderr=log, cwd=cluster.home, start_new_session=True)
        try:
            _wait_for_port(int(cluster.address.rpartition(":")[2]))
            yield cluster
        finally:
            _end(head, folder)


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "HF_", "DELIA_"))}
    return {
        **kept,
        "HOME": str(folder / "home"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_TMPDIR": str(folder),
        # What DeepSpeed compiles for CPUs, and what vLLM finds out about a model, every node would do anew, with a home of its own.
        "TORCH_EXTENSIONS_DIR": os.environ.get("TORCH_EXTENSIONS_DIR", str(Path.home() / ".cache/torch_extensions")),
        "VLLM_CACHE_ROOT": os.environ.get("VLLM_CACHE_ROOT", str(Path.home() / ".cache/vllm")),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _cluster_config(
    cluster: TestCluster, node_types: Mapping[str, Mapping[str, Any]], idle_minutes: float, hidden: Sequence[Path]
) -> dict[str, Any]:
    provider = {
        "type": "external",
        "module": "nodes.ProcessNodeProvider",
        "gcs_address": cluster.gcs_address,
        "folder": str(cluster.folder),
        "hidden": [str(place) for place in hidden],
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    types = {name: {"node_config": {}, "min_workers": 0, "labels": {}, **dict(each)} for name, each in node_types.items()}
    return {
        "cluster_name": "test",
        "max_workers": sum(each["max_workers"] for each in types.values()),
        "upscaling_speed": 100.0,
        "idle_timeout_minutes": idle_minutes,
        "provider": provider,
        "available_node_types": {"head": {"resources": {"CPU": 0}, "labels": {}, "node_config": {}, "max_workers": 0}, **types},
        "head_node_type": "head",
        "auth": {},
        **{key: [] for key in ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")},
        **{
            key: []
            for key in ("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter")
        },
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
    }


def _end(head: "subprocess.Popen[bytes]", folder: Path) -> None:
    """End the head and every process of the cluster: each has the folder in its environment."""
    head.terminate()
    try:
        head.wait(20)
    except subprocess.TimeoutExpired:
        head.kill()
    mark = f"RAY_TMPDIR={folder}".encode()
    _kill_processes(lambda environment: mark in environment)
    shutil.rmtree(folder / "ray", ignore_errors=True)


def _kill_processes(is_meant: Callable[[set[bytes]], bool], is_called: Callable[[list[bytes]], bool] = bool) -> None:
    """Kill the processes whose environment, as ``NAME=value`` each, is meant, and whose command line is."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended by itself
            environment, words = ((process / name).read_bytes().split(b"\0") for name in ("environ", "cmdline"))
            if int(process.name) != os.getpid() and is_meant(set(environment)) and is_called(words):
                os.kill(int(process.name), signal.SIGKILL)


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; tells which address would be used
        return probe.getsockname()[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def _wait_for_port(port: int) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"no dashboard on port {port} after {_START_SECONDS} s")
