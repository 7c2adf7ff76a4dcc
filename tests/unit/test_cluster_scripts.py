"""What the commands in cluster/ do, with scripts in the place of Ray's and Slurm's."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"


def write_script(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/bash\n{text}\n")
    file.chmod(0o755)


def retry(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "DELIA_PAUSE_S": "0"}
    return subprocess.run(
        ["bash", CLUSTER / "retry.sh", "bash", "-c", f"echo run >> runs; {command}"], cwd=folder, env=environment, check=False, text=True
    )


@pytest.mark.parametrize(("code", "runs"), [(0, 1), (1, 3), (2, 1), (130, 1), (137, 3), (143, 1)])
def test_what_failed_runs_three_times_and_what_is_done_wrong_or_stopped_once(code: int, runs: int, tmp_path: Path):
    assert retry(f"exit {code}", tmp_path).returncode == code
    assert (tmp_path / "runs").read_text() == "run\n" * runs


def test_a_second_attempt_that_succeeds_is_the_last(tmp_path: Path):
    assert retry("[ $(wc -l < runs) = 2 ]", tmp_path).returncode == 0
    assert (tmp_path / "runs").read_text() == "run\n" * 2


def wait_for(file: Path) -> None:
    until = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < until, f"{file.name} does not appear"
        time.sleep(0.05)


GOES_ON_AFTER_SIGTERM = "trap 'sleep 0.3; touch checkpoint; exit 1' TERM; touch started; while :; do sleep 0.1; done"


def test_a_stopped_command_ends_its_work_and_is_not_run_again(tmp_path: Path):
    started = subprocess.Popen(["bash", CLUSTER / "retry.sh", "bash", "-c", GOES_ON_AFTER_SIGTERM], cwd=tmp_path)
    wait_for(tmp_path / "started")
    started.send_signal(signal.SIGTERM)
    assert started.wait(30) == 1
    assert (tmp_path / "checkpoint").exists()


RAY = """
case "$1" in
    health-check) [ -e head ] ;;
    start)
        [ "$RAY_AUTH_MODE" = token ] && [ ${#RAY_AUTH_TOKEN} = 64 ] || exit 3
        if [ "$2" = --head ]; then
            echo "$*" > head
            trap 'rm head; exit 0' TERM
            while :; do sleep 0.1; done
        fi
        echo "$*" >> workers
        while [ -e head ]; do sleep 0.1; done
        exit 1 ;;
esac
"""
SRUN = 'for task in 1 2; do "${@:4}" & done; wait'
PYTHON = """
case "$1 $2" in
    "-c "*) exec {python} "$@" ;;
    cluster/wait_for_nodes.py*) until [ "$(wc -l < workers)" = "$2" ]; do sleep 0.1; done ;;
    "-m delia_ray") echo "$RAY_ADDRESS ${{*:3}}" >> verbs; {verb} ;;
esac
"""


def start_slurm_job(folder: Path, verb: str, srun: str = SRUN) -> "subprocess.Popen[bytes]":
    """Start slurm.sh as Slurm would on two nodes; what it calls writes what it was given to files in ``folder``."""
    shutil.copytree(CLUSTER, folder / "cluster")
    write_script(folder / ".venv/bin/ray", RAY)
    write_script(folder / ".venv/bin/srun", srun)
    write_script(folder / ".venv/bin/python", PYTHON.format(python=sys.executable, verb=verb))
    (folder / "workers").touch()
    slurm = {"SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "8", "SLURM_JOB_ID": "7"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = ["bash", folder / "cluster/slurm.sh", "run", "--config", "my.yaml"]
    return subprocess.Popen(command, env={**kept, **slurm, "DELIA_PAUSE_S": "0"}, cwd="/")


@pytest.mark.parametrize("code", [0, 2])
def test_a_slurm_job_starts_head_and_workers_and_ends_as_its_verb_does(code: int, tmp_path: Path):
    job = start_slurm_job(tmp_path, f"exit {code}")
    assert job.wait(60) == code
    assert not (tmp_path / "head").exists()
    (verb,) = (tmp_path / "verbs").read_text().splitlines()
    address, _, words = verb.partition(" ")
    assert address.endswith(":6379") and words == "run --config my.yaml"
    workers = (tmp_path / "workers").read_text().splitlines()
    assert len(workers) == 2 and all(f"--address={address}" in worker and "--num-cpus=8" in worker for worker in workers)


def test_the_signal_before_a_slurm_jobs_end_reaches_the_verb(tmp_path: Path):
    job = start_slurm_job(tmp_path, GOES_ON_AFTER_SIGTERM)
    wait_for(tmp_path / "started")
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 1
    assert (tmp_path / "checkpoint").exists() and not (tmp_path / "head").exists()


def test_a_slurm_job_whose_workers_do_not_come_ends_at_a_signal(tmp_path: Path):
    job = start_slurm_job(tmp_path, "exit 0", srun="exec sleep 60")
    wait_for(tmp_path / "head")
    time.sleep(1)
    job.send_signal(signal.SIGTERM)
    assert job.wait(30) == 143
    assert not (tmp_path / "head").exists() and not (tmp_path / "verbs").exists()


@pytest.mark.parametrize("name", ["aws", "gcp", "local"])
def test_worker_processes_do_not_inherit_the_one_thread_of_ray_up(name: str, tmp_path: Path):
    ray = tmp_path / "delia_ray/.venv/bin/ray"
    write_script(ray, 'echo "$1: threads ${OMP_NUM_THREADS-as Ray likes}"')
    cluster = yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())
    for command in cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]:
        said = subprocess.run(
            ["bash", "-c", f"export OMP_NUM_THREADS=1 && ({command})"],
            env={"HOME": str(tmp_path), "PATH": f"{ray.parent}:/usr/bin:/bin", "RAY_HEAD_IP": "10.0.0.1"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout in ("stop: threads 1\n", "start: threads as Ray likes\n")
