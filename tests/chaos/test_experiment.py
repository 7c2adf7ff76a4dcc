"""A whole experiment at the smallest size, killed once: nothing is built again, and arms that ask for the same are one model."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

GRID = [
    "arms={sft: {ratio: 0}, delia: {ratio: 0}}",
    "experiment={seeds: [0, 1], learning_rates: [1e-3, 2e-3]}",
    "finetune.epochs=0.5",
    "placement.serve={port: 8162, models: 3}",
    "placement.engine.kv_cache_gib=0.25",
]


def command(root: Path) -> list[str]:
    return [sys.executable, "-m", "delia_ray", "experiment", "--config", "jobs/configs/tiny.yaml", f"run.root={root}", *GRID]


def experiment(root: Path) -> None:
    done = subprocess.run(command(root), capture_output=True, text=True, timeout=840, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed as soon as its first model was there, and then asked for again."""
    root = tmp_path_factory.mktemp("experiment")
    killed = subprocess.Popen(command(root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = wait_for(lambda: sorted((root / "tiny" / "arms").glob("*/model/manifest.json")), killed)
    killed.kill()
    killed.wait()
    made = {file: os.stat(file).st_mtime_ns for file in first}
    experiment(root)
    assert {file: os.stat(file).st_mtime_ns for file in first} == made
    return root / "tiny"


def wait_for(look: Callable[[], list[Path]], running: subprocess.Popen[bytes]) -> list[Path]:
    end = time.monotonic() + 600
    while not (found := look()):
        assert running.poll() is None and time.monotonic() < end, "it ended, or nothing was finished in ten minutes"
        time.sleep(0.5)
    return found


def test_every_arm_has_a_row_for_every_seed_and_the_untrained_model_two(finished: Path):
    found = json.loads((finished / "experiment" / "data" / "experiment.json").read_text())
    rows = [(row["arm"], row["rho"], row["n"], row["seed"]) for row in found["rows"]]
    assert rows[:2] == [("base", None, None, None), ("base_instruction", None, None, None)]
    assert sorted(rows[2:]) == [(arm, 0, 4, seed) for arm in ("delia", "sft") for seed in (0, 1)]
    assert {row["learning_rate"] for row in found["rows"][2:]} <= {1e-3, 2e-3}
    assert found["paired"]["delia, rho 0, N 4"]["format_acc"]["difference"] == 0.0


def test_arms_that_ask_for_the_same_are_one_model_and_only_the_first_seed_tries_every_rate(finished: Path):
    trained = sorted(folder.name for folder in (finished / "arms").iterdir() if (folder / "model").exists())
    assert [name.rpartition("-lr")[0] for name in trained] == ["sft-rho0-n4-seed0", "sft-rho0-n4-seed0", "sft-rho0-n4-seed1"]


def test_a_second_time_nothing_is_built(finished: Path):
    before = {file: os.stat(file).st_mtime_ns for file in finished.rglob("manifest.json")}
    experiment(finished.parent)
    assert {file: os.stat(file).st_mtime_ns for file in finished.rglob("manifest.json")} == before
