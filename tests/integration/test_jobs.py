"""Verbs submitted to a running cluster through the Ray Jobs API, the way clusters are used."""

import os
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from delia_ray.core.artifacts import Artifact
from delia_ray.core.records import MIXED_KIND

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Running:
    """A cluster that answers, and the folder of its session."""

    url: str
    folder: Path
    environment: dict[str, str]

    def submit(self, *command: str) -> subprocess.CompletedProcess[str]:
        submit = [str(BIN / "ray"), "job", "submit", "--address", self.url, "--working-dir", ".", "--", "python", *command]
        return subprocess.run(submit, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Running]:
    """A cluster of this module's own: its ports, folder and token are private, and only its processes are stopped."""
    gcs, dashboard, client, agent = _free_ports(4)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex, "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment |= {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}  # nobody is served when it stops
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:  # a socket's path must stay short
        start = [str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats", f"--temp-dir={folder}", "--num-cpus=6"]
        start += [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
        start += [f"--dashboard-agent-listen-port={agent}", "--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=200000000"]
        head = subprocess.Popen(start, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert head.stdout
            assert any("runtime started" in line for line in head.stdout), "the cluster did not start"
            yield Running(f"http://127.0.0.1:{dashboard}", Path(folder), environment)
        finally:
            head.terminate()
            head.communicate(timeout=120)


def test_a_submitted_job_finds_its_config_and_leaves_its_artifact_where_it_is_told(cluster: Running, tmp_path: Path):
    less = ("mix.ratio=1.5", "arms={sft: null, delia: {}}", "synthesize.embeddings=null")
    done = cluster.submit("jobs/mix.py", "--config", "jobs/configs/tiny.yaml", f"run.root={tmp_path}", *less)
    assert done.returncode == 0, done.stdout + done.stderr
    mixed = Artifact.open(tmp_path / "tiny" / "arms" / "delia" / "mixed", MIXED_KIND)
    groups = pq.read_table(mixed.data)["group"].to_pylist()
    assert (groups.count("task"), groups.count("diverse")) == (4, 6)
    assert not (tmp_path / "tiny" / "arms" / "sft").exists()


@pytest.mark.parametrize("entry", [("jobs/mix.py",), ("-m", "delia_ray", "mix")], ids=" ".join)
def test_a_job_that_its_config_refuses_fails_and_says_why(cluster: Running, tmp_path: Path, entry: tuple[str, ...]):
    refused = cluster.submit(*entry, "--config", "jobs/configs/tiny.yaml", f"run.root={tmp_path}", "mix.ration=1")
    assert refused.returncode != 0
    assert "mix.ration: unknown key" in refused.stdout
    assert not list(tmp_path.iterdir())


def test_only_source_is_uploaded_with_a_job(cluster: Running):
    uploads = list(cluster.folder.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/"))
    assert uploads
    for uploaded in uploads:
        assert (uploaded / "jobs" / "mix.py").exists()
        assert not {path.name for path in uploaded.iterdir()} & {".git", ".venv", "runs", ".ruff_cache"}


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
