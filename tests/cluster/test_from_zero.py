"""Runs submitted to a cluster that has no workers yet, and whose workers see neither the head's home nor one another's."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from clusters import TestCluster
from nodes import HEAD

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
PAPER = Path(__file__).parents[2] / "jobs/configs/paper.yaml"
NEW_ARM = ["run.name=tiny", "arms={sft: null, delia: null, other: {ratio: 1}}"]
"""Of the run that is finished, so that only its training is left."""
CONTROL = ("_TallyActor", "WaveState", "WaveBarrier")
"""Actors of ours that may run on the head: they hold counters and keys, and must not end with a worker."""
OF_RAY = ("_StatsActor", "_AutoscalingCoordinator", "ActorLocationTracker", "JobSupervisor", "TrainController", "SynchronizationActor",
          "PlacementGroupCleaner", "PreemptionWatcher", "DatasetManager", "ServeController", "ProxyActor", "_TelemetryAgent",
          "LongPollHost", "DatasetStats", "RequestRouter")  # fmt: skip


def submit(cluster: TestCluster, here: Path, verb: str, *words: str) -> "subprocess.CompletedProcess[str]":
    model = f"model={cluster.home / 'model'}"
    address = f"placement.cluster.jobs_address={cluster.address}"
    return cluster.run("delia", "submit", *verb.split(), "--config", "tiny.yaml", model, address, *words, cwd=here, timeout=1700)


def fingerprint(run: Path, role: str) -> str:
    return json.loads((run / role / "manifest.json").read_text())["fingerprint"]


def wait_until_empty(cluster: TestCluster, seconds: float = 180) -> None:
    until = time.monotonic() + seconds
    while cluster.count_workers():
        assert time.monotonic() < until, "the workers are not removed"
        time.sleep(2)


def test_a_run_grows_an_empty_cluster_finishes_and_leaves_it_empty(cluster: TestCluster, working_folder: Path, tmp_path: Path):
    assert cluster.count_workers() == 0
    done = submit(cluster, working_folder, "run", f"run.root={cluster.shared}", "arms={sft: null, delia: {}}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "waiting for 1 x (1 CPU)" in done.stdout
    run = cluster.shared / "tiny"
    assert (run / "report/manifest.json").exists()
    on_head = {str(each["name"]) for each in cluster.list_actors_and_tasks() if each["node"] == HEAD}
    assert {name for name in on_head if not any(known in name for known in (*CONTROL, *OF_RAY))} == set()
    wait_until_empty(cluster)
    local = [sys.executable, "-m", "delia_ray", "mix", "--config", "tiny.yaml", f"model={cluster.home / 'model'}", f"run.root={tmp_path}"]
    subprocess.run([*local, "arms={sft: null, delia: {}}"], cwd=working_folder, check=True, env={**os.environ, "HOME": str(tmp_path)})
    for role in ("task", "rewritten", "arms/delia/mixed"):
        assert fingerprint(run, role) == fingerprint(tmp_path / "tiny", role)


def test_the_same_command_again_starts_no_node(cluster: TestCluster, working_folder: Path):
    nodes = len(cluster.list_nodes())
    done = submit(cluster, working_folder, "mix", f"run.root={cluster.shared}", "arms={sft: null, delia: {}}")
    assert done.returncode == 0, done.stdout[-3000:]
    assert len(cluster.list_nodes()) == nodes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run.root={home}/runs"], "run.root: the worker"),
        ([*NEW_ARM, "placement.finetune.num_cpus=9"], "placement.finetune: workers=1 x (9 CPUs) fits on no nodes that"),
        ([*NEW_ARM, "placement.finetune={num_gpus: 1, workers: 5}"], "placement.finetune: workers=5 x (1 CPU, 1 GPU) fits on no nodes"),
        (["model=/nowhere"], "model: there is no folder /nowhere"),
        (["mix.ratoi=3"], "mix.ratoi: unknown key; did you mean mix.ratio?"),
    ],
)
def test_what_can_never_work_there_is_refused_in_a_line(words: list[str], said: str, cluster: TestCluster, working_folder: Path):
    words = [word.replace("{home}", str(cluster.home)) for word in words]
    done = submit(cluster, working_folder, "finetune", f"run.root={cluster.shared}", "run.name=refused", *words)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("delia: ")]
    assert (done.returncode, len(lines)) == (2, 1), done.stdout[-3000:]
    assert said in lines[0]


def test_a_missing_token_is_said_before_anything_is_uploaded(cluster: TestCluster, working_folder: Path):
    environment = {**cluster.environment, "RAY_AUTH_TOKEN": "f" * 32}
    command = ["delia", "submit", "run", "--config", "tiny.yaml", f"run.root={cluster.shared}"]
    address = f"placement.cluster.jobs_address={cluster.address}"
    done = subprocess.run([*command, address], cwd=working_folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("delia: placement.cluster.jobs_address: no cluster takes jobs") and "token" in done.stderr


@pytest.mark.parametrize(
    ("stage", "size", "actors"),
    [("synthesize", [1, 2], 2), ("finetune", 4, 4)],
    ids=["a pool that grows", "training workers"],
)
def test_the_placement_of_the_paper_is_scheduled(cluster: TestCluster, working_folder: Path, stage: str, size: object, actors: int):
    """Engines and workers with a GPU each, as in ``paper.yaml``; here a GPU is a number, so vLLM computes on CPUs and no worker trains.

    Of the paper's four engines two are started: two cores do not start four. Each takes a part of the memory that both share here.
    """
    placement = yaml.safe_load(PAPER.read_text(encoding="utf-8"))["placement"][stage]
    placement |= {"size" if stage == "synthesize" else "workers": size}
    engines = ["synthesize.engine={kind: vllm}", "synthesize.queries.rows=20000"] if stage == "synthesize" else []
    words = ["delia", "submit", stage, "--config", "tiny.yaml", f"model={cluster.home / 'model'}", f"run.root={cluster.shared}"]
    words += ["run.name=paper", "arms={sft: null, delia: {}}", *engines, f"placement.{stage}={json.dumps(placement)}"]
    words += [
        "placement.engine={dtype: float32, max_num_seqs: 8, gpu_memory_utilization: 0.2}",
        f"placement.cluster.jobs_address={cluster.address}",
    ]
    environment = dict(cluster.environment)
    job = subprocess.Popen(words, cwd=working_folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        _wait_for_actors(cluster, job, "vLLMEngine" if stage == "synthesize" else "RayTrainWorker", actors)
    finally:
        while job.poll() is None:  # the driver starts a while after the job
            cluster.kill_driver("paper")
            with suppress(subprocess.TimeoutExpired):
                job.communicate(timeout=1)


def _wait_for_actors(cluster: TestCluster, job: "subprocess.Popen[str]", name: str, count: int) -> None:
    """Wait until ``count`` such actors have been on a node each."""
    while len({each["node"] for each in cluster.list_actors_and_tasks() if name in each["name"]} - {None}) < count:
        assert job.poll() is None, job.stdout and job.stdout.read()[-3000:]
        time.sleep(10)  # asking takes a process of its own
