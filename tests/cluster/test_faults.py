"""Faults while a run works on a cluster: it ends by itself or after the same command, with the same rows and losses."""

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clusters import TestCluster
from outcomes import write_outcome

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
STAGES = {
    "queries": ".queries.inflight-*/requests/*.parquet",
    "mix": "arms/delia/.mixed.partial",
    "finetune": "arms/delia/.checkpoint.inflight-*/metrics.jsonl",
    "export": "arms/delia/.model.partial",
    "score": "arms/delia/.scores.answers-*.jsonl",
}
"""Stage -> what lies in the run's folder while it works."""
UNBROKEN = "unbroken"
NOTICE_SECONDS = 15
ROWS = (
    ("queries/data/kept", "query_id"),
    ("diverse/data/kept", "exchange_id"),
    ("arms/delia/mixed/data", "example_id"),
    ("arms/delia/scores/data/generations.parquet", "prompt_id"),
)
"""Artifacts, and what tells their rows apart."""


@dataclass(frozen=True)
class Runs:
    """Runs of the smallest config that are submitted to a cluster."""

    cluster: TestCluster
    here: Path
    """The folder that is uploaded."""

    def start(self, name: str) -> "subprocess.Popen[str]":
        words = [f"run.root={self.cluster.shared}", f"run.name={name}", f"model={self.cluster.home / 'model'}"]
        words += ["arms={sft: null, delia: {}}", "finetune.epochs=4", "finetune.checkpoint_every=2"]
        command = ["delia", "submit", "run", "--config", "tiny.yaml", f"placement.cluster.jobs_address={self.cluster.address}", *words]
        environment = dict(self.cluster.environment)
        return subprocess.Popen(command, cwd=self.here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_for(self, name: str, stage: str, job: "subprocess.Popen[str]") -> None:
        while not any((self.cluster.shared / name).glob(STAGES[stage])):
            assert job.poll() is None, job.stdout and job.stdout.read()[-3000:]
            time.sleep(0.05)

    def finish(self, name: str, job: "subprocess.Popen[str]") -> str:
        """Wait for the job, give the same command again if it failed, and say how the run ended."""
        said, _ = job.communicate()
        if job.returncode == 0:
            return "by itself"
        said, _ = (again := self.start(name)).communicate()
        assert again.returncode == 0, said[-3000:]
        return "after the same command"

    def check(self, name: str) -> tuple[int, float]:
        """Compare a run with one that no fault met: the rows lost or doubled, and the largest difference of a loss."""
        run, unbroken = self.cluster.shared / name, self.cluster.shared / UNBROKEN
        return count_wrong_rows(run, unbroken), compare_losses(run, unbroken)


def count_wrong_rows(run: Path, unbroken: Path) -> int:
    """Rows that one of both has more often than the other."""
    wrong = 0
    for role, column in ROWS:
        found, expected = (Counter(pq.read_table(each / role)[column].to_pylist()) for each in (run, unbroken))
        wrong += ((found - expected) + (expected - found)).total()
    return wrong


def compare_losses(run: Path, unbroken: Path) -> float:
    """The largest difference of a step's loss; infinite where the steps are not the same."""
    found, expected = (read_losses(each / "arms/delia/checkpoint/data/metrics.jsonl") for each in (run, unbroken))
    return max(abs(found[step] - expected[step]) for step in found) if found.keys() == expected.keys() else float("inf")


def read_losses(log: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in map(json.loads, log.read_text().splitlines())}


@pytest.fixture(scope="module")
def runs(cluster: TestCluster, working_folder: Path) -> Runs:
    """Runs to try faults on, beside one that no fault meets."""
    runs = Runs(cluster, working_folder)
    assert runs.finish(UNBROKEN, runs.start(UNBROKEN)) == "by itself"
    return runs


def kill_workers(cluster: TestCluster, _run: str) -> None:
    cluster.kill_workers()


def kill_driver(cluster: TestCluster, run: str) -> None:
    cluster.kill_driver(run)


def preempt_workers(cluster: TestCluster, _run: str) -> None:
    cluster.announce_end_of_workers(NOTICE_SECONDS)
    time.sleep(NOTICE_SECONDS)
    cluster.kill_workers()


FAULTS = {
    "every worker is killed": (kill_workers, tuple(STAGES)),
    "the driver is killed": (kill_driver, tuple(STAGES)),
    "every worker is taken after a notice": (preempt_workers, ("queries", "finetune", "score")),
}
"""Fault -> what makes it, and the stages that it meets."""


@pytest.mark.parametrize(("fault", "stage"), [(fault, stage) for fault, (_, stages) in FAULTS.items() for stage in stages])
def test_a_run_that_a_fault_meets_ends_by_itself_or_after_the_same_command(runs: Runs, fault: str, stage: str):
    make, name = FAULTS[fault][0], f"{fault.replace(' ', '-')}-{stage}"
    job = runs.start(name)
    runs.wait_for(name, stage, job)
    make(runs.cluster, name)
    ends = runs.finish(name, job)
    rows, difference = runs.check(name)
    write_outcome(fault, stage, ends, rows, difference)
    assert rows == 0 and difference <= 1e-5


def test_a_run_ends_where_another_job_fills_every_object_store(runs: Runs):
    with runs.cluster.fill_object_stores():
        ends = runs.finish("full", runs.start("full"))
    rows, difference = runs.check("full")
    write_outcome("another job fills every object store", "all stages", ends, rows, difference)
    assert rows == 0 and difference <= 1e-5


def test_a_stopped_training_writes_a_checkpoint_and_says_at_which_step_it_goes_on(runs: Runs):
    job, cluster = runs.start("stopped"), runs.cluster
    runs.wait_for("stopped", "finetune", job)
    job.send_signal(signal.SIGINT)  # off a terminal nobody can be asked, and the job goes on
    said, _ = job.communicate()
    assert job.returncode == 130 and "goes on" in said
    name = re.findall(r"^(\S+): goes on$", said, re.MULTILINE)[0]  # other lines are Ray's
    stop = ["ray", "job", "stop", "--address", cluster.address, name]
    subprocess.run(stop, env={**os.environ, **cluster.environment}, check=True, capture_output=True)
    log = cluster.run("ray", "job", "logs", "--address", cluster.address, name).stdout
    assert "stopped; a checkpoint is written at step" in log
