"""Twenty kills of the driver, of an engine's actor and of a node: no row is lost, duplicated, or generated again once it is cached."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import ray
from processes import PATIENCE_SECONDS, start, wait_until
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.chaos
DRIVER = Path(__file__).with_name("synthesis_driver.py")
ROWS = 400
BLOCKS = ROWS // 4
KILLS = random.Random(0).sample(range(1, BLOCKS * 3 // 4), 20)


def _count_files(cache: Path) -> int:
    return sum(1 for _ in cache.glob("*/*.parquet"))


def finish(driver: subprocess.Popen[bytes], out: Path) -> list[tuple[str, str]]:
    """Id and text of every row, kept or rejected."""
    assert driver.wait(timeout=PATIENCE_SECONDS) == 0
    kept = pq.read_table(out / "data" / "kept").to_pylist()
    rejects = pq.read_table(out / "data" / "rejects").to_pylist()
    return sorted([*((row["query_id"], row["query"]) for row in kept), *((row["row_id"], row["text"]) for row in rejects)])


def counts(out: Path) -> dict[str, Any]:
    return json.loads((out / "manifest.json").read_text())["counts"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    folder.mkdir()
    subprocess.run([sys.executable, str(DRIVER), "make", str(folder)], check=True, capture_output=True, timeout=PATIENCE_SECONDS)
    return folder


@pytest.fixture(scope="module")
def unbroken(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("unbroken")
    rows = finish(start(DRIVER, "generate", model, folder / "queries", folder / "cache", log=folder / "log"), folder / "queries")
    assert len({name for name, _ in rows}) == len(rows) == ROWS
    return rows


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head with room for one engine; a test may add a node with room for another."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    ray.init(address=cluster.address)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.parametrize("blocks", KILLS[:7])
def test_a_killed_driver_generates_only_what_is_missing(model: Path, unbroken: list[tuple[str, str]], tmp_path: Path, blocks: int):
    words = ("generate", model, tmp_path / "queries", tmp_path / "cache")
    driver = start(DRIVER, *words, log=tmp_path / "log")
    wait_until(driver, lambda: _count_files(tmp_path / "cache"), blocks)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    assert finish(start(DRIVER, *words, log=tmp_path / "log"), tmp_path / "queries") == unbroken
    after = counts(tmp_path / "queries")
    assert after["generated"] + after["cached"] == ROWS and after["cached"] >= blocks


@pytest.mark.parametrize("blocks", KILLS[7:14])
def test_a_killed_engine_is_replaced(cluster: Cluster, model: Path, unbroken: list[tuple[str, str]], tmp_path: Path, blocks: int):
    where = ("--address", cluster.address)
    driver = start(DRIVER, "generate", model, tmp_path / "queries", tmp_path / "cache", *where, log=tmp_path / "log")
    wait_until(driver, lambda: _count_files(tmp_path / "cache"), blocks)
    engines = [process for process in psutil.process_iter(["cmdline"]) if "vLLMEngine" in " ".join(process.info["cmdline"] or [])]
    assert len(engines) == 1
    engines[0].send_signal(signal.SIGKILL)
    assert finish(driver, tmp_path / "queries") == unbroken


@pytest.mark.parametrize("blocks", KILLS[14:])
def test_generation_goes_on_without_a_node_that_died(
    cluster: Cluster, model: Path, unbroken: list[tuple[str, str]], tmp_path: Path, blocks: int
):
    """An engine on each of two nodes; when one dies, the other generates the rest."""
    node = cluster.add_node(num_cpus=3)
    cluster.wait_for_nodes()
    where = ("--address", cluster.address, "--actors", 2, "--num-cpus", 2.5)
    driver = start(DRIVER, "generate", model, tmp_path / "queries", tmp_path / "cache", *where, log=tmp_path / "log")
    wait_until(driver, lambda: _count_files(tmp_path / "cache"), blocks)
    cluster.remove_node(node, allow_graceful=False)
    assert finish(driver, tmp_path / "queries") == unbroken
