"""Ten kills each of the driver, a training worker and a node: the loss curve equals that of an uninterrupted run."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
from processes import PATIENCE_SECONDS, start, wait_until
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.chaos
DRIVER = Path(__file__).with_name("training_driver.py")
KILLS = random.Random(0).sample(range(1, 37), 10)


def finish(driver: subprocess.Popen[bytes], out: Path) -> np.ndarray:
    """[steps, 3] step, loss and gradient norm of the finished run."""
    assert driver.wait(timeout=PATIENCE_SECONDS) == 0
    lines = (out / "data" / "metrics.jsonl").read_text().splitlines()
    return np.array([(line["step"], line["loss"], line["grad_norm"]) for line in map(json.loads, lines)])


def _count_steps(folder: Path) -> int:
    return max((len(file.read_text().splitlines()) for file in folder.glob(".checkpoint.inflight-*/metrics.jsonl")), default=0)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    subprocess.run([sys.executable, str(DRIVER), "make", str(folder)], check=True, capture_output=True, timeout=PATIENCE_SECONDS)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return finish(start(DRIVER, "train", inputs, folder / "checkpoint", log=folder / "log"), folder / "checkpoint")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head with room for one worker; a test may add a node with room for another."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3})
    ray.init(address=cluster.address)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.parametrize("step", KILLS)
def test_a_killed_driver_resumes(inputs: Path, uninterrupted: np.ndarray, tmp_path: Path, step: int):
    arguments = ("train", inputs, tmp_path / "checkpoint")
    driver = start(DRIVER, *arguments, log=tmp_path / "log")
    wait_until(driver, lambda: _count_steps(tmp_path), step)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    assert finish(start(DRIVER, *arguments, log=tmp_path / "log"), tmp_path / "checkpoint") == pytest.approx(uninterrupted, abs=1e-5)


@pytest.mark.parametrize("step", KILLS)
def test_a_killed_worker_is_replaced(cluster: Cluster, inputs: Path, uninterrupted: np.ndarray, tmp_path: Path, step: int):
    driver = start(DRIVER, "train", inputs, tmp_path / "checkpoint", "--address", cluster.address, log=tmp_path / "log")
    wait_until(driver, lambda: _count_steps(tmp_path), step)
    workers = [process for process in psutil.process_iter(["cmdline"]) if "RayTrainWorker" in " ".join(process.info["cmdline"] or [])]
    assert len(workers) == 1
    workers[0].send_signal(signal.SIGKILL)
    assert finish(driver, tmp_path / "checkpoint") == pytest.approx(uninterrupted, abs=1e-5)


@pytest.mark.parametrize("step", KILLS)
def test_training_resumes_without_a_node_that_died(cluster: Cluster, inputs: Path, uninterrupted: np.ndarray, tmp_path: Path, step: int):
    """A worker on each of two nodes; when one dies, the other continues alone with the whole batch."""
    node = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    arguments = ("--address", cluster.address, "--fewest", 1, "--most", 2, "--num-cpus", 2)
    driver = start(DRIVER, "train", inputs, tmp_path / "checkpoint", *arguments, log=tmp_path / "log")
    wait_until(driver, lambda: _count_steps(tmp_path), step)
    cluster.remove_node(node, allow_graceful=False)
    assert finish(driver, tmp_path / "checkpoint") == pytest.approx(uninterrupted, abs=1e-5)
