"""``kill -9`` of the driver in every stage; the same command then finishes, with the same rows and the same loss curve."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.chaos

CONFIG = Path(__file__).parents[2] / "jobs/configs/tiny.yaml"
WORDS = ["finetune.checkpoint_every=1", "finetune.epochs=3", "arms={sft: null}"]
ARM = [f"arms/delia/{role}" for role in ("mixed", "checkpoint", "model", "scores")]
STAGES = ["task", "rewritten", "base", "queries", "diverse", "diversity", "clean", *ARM]
START_SECONDS = 600


def command(root: Path) -> list[str]:
    return [sys.executable, "-m", "delia_ray", "run", "--config", str(CONFIG), f"run.root={root}", *WORDS]


def finish(root: Path) -> Path:
    done = subprocess.run(command(root), capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "tiny"


def rows(run: Path) -> list[dict[str, object]]:
    return pq.read_table(run / "arms/delia/mixed/data").sort_by("order_key").to_pylist()


def curve(run: Path) -> np.ndarray:
    """[steps, 3]: step, loss and gradient norm."""
    lines = (run / "arms/delia/checkpoint/data/metrics.jsonl").read_text().splitlines()
    return np.array([(line["step"], line["loss"], line["grad_norm"]) for line in map(json.loads, lines)])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(tmp_path_factory.mktemp("unbroken"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_was_killed_in_a_stage_goes_on_to_the_same_end(unbroken: Path, tmp_path: Path, stage: str):
    place = tmp_path / "tiny" / stage
    partial = place.with_name(f".{place.name}.partial")
    driver = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + START_SECONDS
    while not partial.exists() and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    if stage.endswith("checkpoint"):  # a few steps in, with checkpoints on the disk
        while driver.poll() is None and len(_lines(place)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL, "the stage was over before it could be killed"
    assert not (place / "manifest.json").exists()
    run = finish(tmp_path)
    assert rows(run) == rows(unbroken)
    assert curve(run) == pytest.approx(curve(unbroken), abs=1e-5)


def _lines(checkpoint: Path) -> list[str]:
    found = [file.read_text() for file in checkpoint.parent.glob(f".{checkpoint.name}.inflight-*/metrics.jsonl")]
    return found[0].splitlines() if found else []
