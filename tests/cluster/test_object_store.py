"""Runs in a bucket, on a cluster whose nodes share no disk at all: every node has a mirror of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from clusters import TestCluster, start_cluster
from conftest import NODE_MEMORY
from object_store import Store, start_store

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
BUCKET = "runs"
ARMS = "arms={sft: null, delia: {}}"


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with start_store() as store:
        store.create_bucket(BUCKET)
        yield store


@pytest.fixture(scope="module")
def cluster(folder: Path, store: Store) -> Iterator[TestCluster]:
    """Up to two workers of 4 CPUs; every machine's mirrors are its own."""
    types = {"cpu": {"resources": {"CPU": 4, "object_store_memory": NODE_MEMORY}, "max_workers": 2}}
    for name in ("mirror", "second"):
        (folder / name).mkdir()
    hidden = (folder / "shared", folder / "mirror", folder / "second")
    with start_cluster(folder, types, environment=store.environment, hidden=hidden) as cluster:
        yield cluster


def words(cluster: TestCluster, name: str, mirror: str = "mirror") -> list[str]:
    place = [f"run.root=s3://{BUCKET}/a/b", f"run.name={name}", f"placement.cluster.mirror={cluster.folder / mirror}"]
    return ["--config", "tiny.yaml", f"model={cluster.home / 'model'}", ARMS, *place]


def start(cluster: TestCluster, here: Path, *command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        cwd=here,
        env=dict(cluster.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def submit(cluster: TestCluster, here: Path, verb: str, name: str) -> "subprocess.Popen[str]":
    address = f"placement.cluster.jobs_address={cluster.address}"
    return start(cluster, here, "delia", "submit", verb, *words(cluster, name), address)


def wait_for(store: Store, run: str, part: str, job: "subprocess.Popen[str]") -> None:
    while True:
        with suppress(OSError):  # the server fails on demand
            if any(part in key for key in store.list(f"{BUCKET}/a/b/{run}")):
                return
        assert job.poll() is None, job.stdout and job.stdout.read()[-3000:]
        time.sleep(0.5)


def fingerprint(store: Store, run: str, role: str) -> str:
    return json.loads(store.read(f"{BUCKET}/a/b/{run}/{role}/manifest.json"))["fingerprint"]


def list_unpublished(mirror: Path, store: Store, run: str) -> set[str]:
    """The files of the run in a mirror, but for locks, that the bucket lacks."""
    there = set(store.list(f"{BUCKET}/a/b/{run}"))
    folder = mirror / ".delia-mirror/s3" / BUCKET / "a/b" / run
    here = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    return {name for name in here - there if not name.endswith(".lock")}


def test_a_run_in_a_bucket_ends_with_the_same_rows_as_a_local_one(cluster: TestCluster, working_folder: Path, store: Store, tmp_path: Path):
    job = submit(cluster, working_folder, "run", "tiny")
    said, _ = job.communicate()
    assert job.returncode == 0, said[-3000:]
    kept = store.list(f"{BUCKET}/a/b/tiny")
    assert {"report/manifest.json", "report/data/report.json", "pages/report.html", "logs/run.log", "config.yaml"} <= set(kept)
    assert not [name for name in kept if ".inflight-" in name or ".partial" in name or name == ".lease"]
    assert list_unpublished(cluster.folder / "mirror", store, "tiny") == set()
    local = [sys.executable, "-m", "delia_ray", "mix", "--config", "tiny.yaml", f"model={cluster.home / 'model'}", f"run.root={tmp_path}"]
    subprocess.run([*local, "run.name=tiny", ARMS], cwd=working_folder, check=True, env={**os.environ, "HOME": str(tmp_path)})
    for role in ("task", "rewritten", "arms/delia/mixed"):
        assert fingerprint(store, "tiny", role) == json.loads((tmp_path / "tiny" / role / "manifest.json").read_text())["fingerprint"]


def test_a_run_outlives_a_store_that_fails_for_a_while(cluster: TestCluster, working_folder: Path, store: Store):
    job = submit(cluster, working_folder, "finetune", "faults")
    wait_for(store, "faults", "base/manifest.json", job)
    store.fail_for(25)
    wait_for(store, "faults", "/metrics.jsonl", job)
    store.fail_for(25)
    said, _ = job.communicate()
    assert job.returncode == 0, said[-3000:]
    assert fingerprint(store, "faults", "arms/delia/checkpoint")


def test_a_driver_with_an_empty_mirror_ends_the_run_of_a_killed_one(cluster: TestCluster, working_folder: Path, store: Store):
    address = f"placement.cluster.address={cluster.gcs_address}"
    longer = ["finetune.epochs=20", "finetune.checkpoint_every=2", address]
    first = start(cluster, working_folder, "delia", "finetune", *words(cluster, "killed"), *longer)
    wait_for(store, "killed", "/checkpoints/", first)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    before = fingerprint(store, "killed", "arms/delia/mixed")
    second = start(cluster, working_folder, "delia", "finetune", *words(cluster, "killed", "second"), *longer)
    said, _ = second.communicate()
    assert second.returncode == 0, said[-3000:]
    assert "it is free after" in said
    assert fingerprint(store, "killed", "arms/delia/mixed") == before
    assert list_unpublished(cluster.folder / "second", store, "killed") == set()


def test_a_bucket_that_is_not_there_is_said_before_anything_is_uploaded(cluster: TestCluster, working_folder: Path):
    address = f"placement.cluster.jobs_address={cluster.address}"
    done = cluster.run("delia", "submit", "run", *words(cluster, "r"), address, "run.root=s3://no-such-bucket/runs", cwd=working_folder)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("delia: run.root: there is no bucket no-such-bucket") and done.stderr.count("\n") == 1
