"""A whole experiment at the smallest size: what is finished is never built again, and arms that ask for the same are trained once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GRID = "experiment={seeds: [0, 1], learning_rates: [1e-3, 2e-3], ratios: {delia: [0]}}"
SMALL = ["finetune.epochs=0.5", "score.split=test", "placement.serve.models=2", "placement.engine.kv_cache_gib=0.25"]


def experiment(root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "delia_ray.cli", "experiment", "--config", "jobs/configs/tiny.yaml", f"run.root={root}", GRID]
    return subprocess.run([*command, *SMALL, *more], capture_output=True, text=True, timeout=840, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("experiment")
    done = experiment(root, "placement.serve.port=8162")
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "tiny"


def test_every_arm_has_a_row_for_every_seed_and_the_untrained_model_two(finished: Path):
    found = json.loads((finished / "experiment" / "data" / "experiment.json").read_text())
    rows = [(row["arm"], row["rho"], row["seed"]) for row in found["rows"]]
    assert rows[:2] == [("base", None, None), ("base_instruction", None, None)]
    assert sorted(rows[2:]) == [(arm, rho, seed) for arm, rho in (("delia", 0, ), ("delia", 2), ("it", 0)) for seed in (0, 1)]  # fmt: skip
    assert all(row["n"] == 4 for row in found["rows"][2:])
    assert found["paired"]["delia, rho 2, N 4"]["format_acc"]["difference"] is not None


def test_arms_without_diverse_rows_are_one_model(finished: Path):
    trained = sorted(folder.name for folder in (finished / "arms").iterdir() if (folder / "model").exists())
    assert not [name for name in trained if name.startswith("delia-rho0")]
    assert len([name for name in trained if "seed0" in name]) == 4  # two trainings at two learning rates
    assert len([name for name in trained if "seed1" in name]) == 2


def test_a_second_time_nothing_is_built(finished: Path):
    before = {file: os.stat(file).st_mtime_ns for file in finished.rglob("manifest.json")}
    done = experiment(finished.parent, "placement.serve.port=8162")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {file: os.stat(file).st_mtime_ns for file in finished.rglob("manifest.json")} == before
