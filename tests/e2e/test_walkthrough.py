"""The README's walk-through, as a user would do it: 30 rows of their own, a model folder, `init`, `run` and `show`; then `run` again."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from delia_ray.models import adopt_model
from delia_ray.serving.finished_models import find_finished_models

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = Path(__file__).parents[2] / "examples/units"
SMALL = {
    "run": {"name": "units"},
    "task": {
        "kind": "messages",
        "train": str(EXAMPLES / "train.jsonl"),
        "test": str(EXAMPLES / "test.jsonl"),
        "metric": ["exact_match", "chrf", "scores:same_numbers"],
    },
    "synthesize": {
        "queries": {"kind": "magpie", "rows": 24, "top_k": 50, "max_tokens": 24},
        "answers": {"temperature": 0.7, "top_p": 1.0, "top_k": 50, "max_tokens": 64},
    },
    "mix": {"ratio": 0.2},
    "finetune": {"epochs": 1, "global_batch_size": 6, "learning_rate": 1e-3, "warmup_steps": 1},
    "arms": {"sft": None},
    "score": {"ordinary": 8, "ordinary_tokens": 16, "max_tokens": 24},
}

OWN_METRIC = """
def same_numbers(output, reference):
    found, wanted = ({word for word in text.split() if word.isdigit()} for text in (output, reference))
    return found == wanted
"""


def delia(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "delia_ray", *argv]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1200, check=False)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    template = delia("init", cwd=folder)
    assert template.returncode == 0
    edited = {**yaml.safe_load(template.stdout), **SMALL, "model": str(adopt_model("builtin:smollm2-135m-instruct").path)}
    (folder / "my.yaml").write_text(yaml.safe_dump(edited))
    (folder / "scores.py").write_text(OWN_METRIC)
    return folder


@pytest.fixture(scope="module")
def finished(work: Path) -> Path:
    done = delia("run", "--config", "my.yaml", cwd=work)
    log = work / "runs/units/logs/run.log"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text()[-4000:] if log.exists() else "")
    assert "report: runs/units/pages/report.html" in done.stdout
    return work / "runs/units"


def test_the_report_holds_the_users_metric_with_its_interval(finished: Path):
    report = json.loads((finished / "report/data/report.json").read_text())
    assert set(report["arms"]) == {"base", "delia"}
    for scores in report["arms"].values():
        exact = scores["exact_match"]
        assert exact["n"] == 15 and 0 <= exact["low"] <= exact["value"] <= exact["high"] <= 1
        assert exact["value"] <= scores["scores:same_numbers"]["value"] <= 1, "equal answers have equal numbers"
        assert 0 <= scores["chrf"]["value"] <= 100
    assert set(report["signatures"]) == {"chrf"}
    assert set(report["paired"]["delia-base"]["chrf"]) >= {"p", "p_holm", "gain_percent", "gain_low", "gain_high"}
    assert report["arms"]["delia"]["retention_kl"]["value"] > report["arms"]["base"]["retention_kl"]["value"]
    assert "delia-base" in report["paired"]


def test_training_brought_the_loss_of_the_users_rows_down(finished: Path):
    lines = [json.loads(line) for line in (finished / "arms/delia/checkpoint/data/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["task_loss"] < 0.7 * lines[0]["task_loss"]


def test_every_number_leads_back_to_the_rows_it_came_from(finished: Path, work: Path):
    chain = delia("show", "--config", "my.yaml", cwd=work)
    assert chain.returncode == 0
    shown = {line.split()[0] for line in chain.stdout.splitlines()}
    arm = {f"arms/delia/{role}" for role in ("mixed", "checkpoint", "model", "scores")}
    assert shown == {"task", "rewritten", "base", "queries", "diverse", "diversity", "clean", "report", "arms/base/scores"} | arm
    assert set(find_finished_models(finished)) == {"base", "delia"}


def test_the_exported_model_wrote_the_same_in_both_stacks(finished: Path):
    counts = json.loads((finished / "arms/delia/model/manifest.json").read_text())["counts"]
    assert counts["parity_equal"] + counts["parity_ties"] == 32
    assert counts["parity_equal"] >= 29


def test_the_python_api_reads_what_the_command_built(finished: Path, work: Path):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("manifest.json")}
    code = re.search(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.DOTALL)
    assert code is not None
    done = subprocess.run([sys.executable, "-c", code.group(1)], cwd=work, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "'exact_match'" in done.stdout and "report.html" in done.stdout
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("manifest.json")} == before


def test_the_same_command_again_builds_nothing_and_starts_nothing(finished: Path, work: Path, monkeypatch: pytest.MonkeyPatch):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("manifest.json")}
    sessions = work / "sessions"
    sessions.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(sessions))
    again = delia("run", "--config", "my.yaml", cwd=work)
    assert again.returncode == 0, again.stderr
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("manifest.json")} == before
    assert not list(sessions.iterdir()), "Ray was started"
