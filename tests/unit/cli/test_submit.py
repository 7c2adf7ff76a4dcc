"""What is refused before anything is uploaded to a cluster."""

import socket
from pathlib import Path

import pytest
import yaml

from delia_ray.cli import submit
from delia_ray.cli.main import main
from delia_ray.serving.http.keys import VARIABLE


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "my.yaml").write_text(yaml.safe_dump({"run": {"name": "r", "root": "/mnt/runs"}}))
    return folder


def refuse(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["submit", *words]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and said.out == ""
    return said.err


@pytest.mark.parametrize("verb", ["", "show", "submit", "frob", "help"])
def test_only_what_can_run_there_is_submitted(verb: str, here: Path, capsys: pytest.CaptureFixture[str]):
    assert f"found {verb!r}; name the verb" in refuse(capsys, *verb.split(), "--config", "my.yaml")


def test_a_folder_of_runs_that_would_go_with_the_job_is_refused(here: Path, capsys: pytest.CaptureFixture[str]):
    assert "run.root: runs would lie in the job's copy" in refuse(capsys, "run", "--config", "my.yaml", "run.root=runs")


def test_a_store_that_cannot_be_used_is_refused_with_those_that_can(here: Path, capsys: pytest.CaptureFixture[str]):
    said = refuse(capsys, "run", "--config", "my.yaml", "run.root=hdfs://host/x")
    assert "run.root: hdfs:// cannot be used; name s3://bucket/folder, gs://bucket/folder, or a folder" in said


def test_a_config_that_is_not_uploaded_is_refused(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"run": {"name": "r", "root": "/mnt/runs"}}))
    assert "other.yaml: is not in" in refuse(capsys, "run", "--config", str(tmp_path / "other.yaml"))


def test_a_folder_with_too_much_to_upload_is_refused_with_the_largest_files(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(submit, "_MAX_UPLOAD_BYTES", 3 * 2**20)
    (here / "rows.jsonl").write_bytes(b" " * 4 * 2**20)
    for excluded in ("runs", ".git", ".venv"):
        (here / excluded).mkdir()
        (here / excluded / "large").write_bytes(b" " * 5 * 2**20)
    said = refuse(capsys, "run", "--config", "my.yaml")
    assert "rows.jsonl (4 MiB)" in said and "large" not in said


def test_keys_that_would_stay_here_are_refused(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, "k" * 24)
    assert f"{VARIABLE} is set here, and the job would not have it" in refuse(capsys, "serve", "--config", "my.yaml")
    named = f"placement.cluster.environment=[{VARIABLE}]"
    assert "no cluster takes jobs" in refuse(
        capsys, "serve", "--config", "my.yaml", named, "placement.cluster.jobs_address=http://127.0.0.1:1"
    )


def test_a_cluster_that_does_not_answer_is_named(here: Path, capsys: pytest.CaptureFixture[str]):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        said = refuse(capsys, "run", "--config", "my.yaml", f"placement.cluster.jobs_address={address}")
    assert f"placement.cluster.jobs_address: no cluster takes jobs at {address}" in said
