"""Workers that are taken away while a run works: it ends by itself, with the same rows."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clusters import TestCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
STAGES = {
    "queries": ".queries.inflight-*/requests/*.parquet",
    "mix": "arms/delia/.mixed.partial",
    "finetune": "arms/delia/.checkpoint.inflight-*/metrics.jsonl",
    "export": "arms/delia/.model.partial",
    "score": "arms/delia/.scores.answers-*.jsonl",
}
"""Stage -> what lies in the run's folder while it works."""


def start(cluster: TestCluster, here: Path, name: str) -> "subprocess.Popen[str]":
    words = [f"run.root={cluster.shared}", f"run.name={name}", f"model={cluster.home / 'model'}", "arms={sft: null, delia: {}}"]
    command = ["delia", "submit", "run", "--config", "tiny.yaml", f"placement.cluster.jobs_address={cluster.address}", *words]
    return subprocess.Popen(command, cwd=here, env=dict(cluster.environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(run: Path, pattern: str, job: "subprocess.Popen[str]") -> None:
    while not any(run.glob(pattern)):
        assert job.poll() is None, job.stdout and job.stdout.read()[-3000:]
        time.sleep(0.05)


def read_ids(run: Path, role: str, column: str) -> list[str]:
    return sorted(pq.read_table(run / role)[column].to_pylist())


@pytest.fixture(scope="module")
def unbroken(cluster: TestCluster, working_folder: Path) -> Path:
    job = start(cluster, working_folder, "unbroken")
    said, _ = job.communicate()
    assert job.returncode == 0, said[-3000:]
    return cluster.shared / "unbroken"


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_whose_workers_die_in_a_stage_ends_by_itself_or_after_the_same_command(
    unbroken: Path, cluster: TestCluster, working_folder: Path, stage: str
):
    job, run = start(cluster, working_folder, f"lost-{stage}"), cluster.shared / f"lost-{stage}"
    wait_for(run, STAGES[stage], job)
    cluster.kill_workers()
    said, _ = job.communicate()
    if job.returncode != 0:
        again = start(cluster, working_folder, run.name)
        said, _ = again.communicate()
        assert again.returncode == 0, said[-3000:]
    for role, column in (("queries/data/kept", "query_id"), ("diverse/data/kept", "exchange_id"), ("arms/delia/mixed/data", "example_id")):
        assert read_ids(run, role, column) == read_ids(unbroken, role, column)
    losses, expected = (
        [json.loads(line)["loss"] for line in (each / "arms/delia/checkpoint/data/metrics.jsonl").read_text().splitlines()]
        for each in (run, unbroken)
    )
    assert losses == pytest.approx(expected, abs=1e-5)


def test_a_stopped_training_writes_a_checkpoint_and_says_at_which_step_it_goes_on(cluster: TestCluster, working_folder: Path):
    job, run = start(cluster, working_folder, "stopped"), cluster.shared / "stopped"
    wait_for(run, STAGES["finetune"], job)
    job.send_signal(signal.SIGINT)  # off a terminal nobody can be asked, and the job goes on
    said, _ = job.communicate()
    assert job.returncode == 130 and "goes on" in said
    name = said.split(":")[0]
    stop = ["ray", "job", "stop", "--address", cluster.address, name]
    subprocess.run(stop, env={**os.environ, **cluster.environment}, check=True, capture_output=True)
    log = cluster.run("ray", "job", "logs", "--address", cluster.address, name).stdout
    assert "stopped; a checkpoint is written at step" in log
