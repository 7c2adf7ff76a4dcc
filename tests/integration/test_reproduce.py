"""A run's artifact built again through the command line, as far as no cluster is needed."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from delia_ray.cli.main import main

CONFIG = str(Path(__file__).parents[2] / "jobs" / "configs" / "tiny.yaml")


def test_a_reproduction_rebuilds_the_rows_beside_the_run_and_tells_a_forged_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["rewrite", "--config", CONFIG, f"run.root={tmp_path}"]) == 0
    artifact = tmp_path / "tiny" / "rewritten"
    before = {file: file.read_bytes() for file in (tmp_path / "tiny").rglob("*.parquet")}
    capfd.readouterr()

    assert main(["reproduce", str(artifact)]) == 0
    said = [line.split("  ") for line in capfd.readouterr().out.splitlines()]
    assert [(line[0], line[2]) for line in said if line[0] in ("task", "rewritten")] == [
        ("task", "same bytes"),
        ("rewritten", "same bytes"),
    ]
    assert (tmp_path / "tiny.reproduced" / "tiny" / "rewritten" / "manifest.json").exists()
    assert before == {file: file.read_bytes() for file in (tmp_path / "tiny").rglob("*.parquet")}

    rows = pq.read_table(artifact / "data" / "train.parquet")
    pq.write_table(rows.slice(1), artifact / "data" / "train.parquet")
    assert main(["reproduce", str(artifact), f"run.root={tmp_path / 'again'}"]) == 1
    assert "first that differs: rewritten" in capfd.readouterr().out

    assert main(["reproduce", str(tmp_path)]) == 2
    assert "manifest.json" in capfd.readouterr().err
    shutil.move(tmp_path / "tiny" / "config.yaml", tmp_path / "elsewhere.yaml")
    assert main(["reproduce", str(artifact)]) == 2
    assert "older than this record" in capfd.readouterr().err


def test_a_changed_input_file_is_named_before_anything_is_built(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    for name in ("train", "test"):
        row = {"messages": [{"role": "user", "content": f"Say {name}."}, {"role": "assistant", "content": f"The word is {name}."}]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    task = [f"task={{kind: messages, train: {tmp_path / 'train.jsonl'}, test: {tmp_path / 'test.jsonl'}}}", "score.plug_play=0"]
    assert main(["rewrite", "run.name=own", f"run.root={tmp_path}", *task]) == 0
    (tmp_path / "test.jsonl").write_text((tmp_path / "test.jsonl").read_text() * 2)
    assert main(["reproduce", str(tmp_path / "own" / "rewritten")]) == 2
    assert f"{tmp_path / 'test.jsonl'} has changed" in capfd.readouterr().err
    assert not list((tmp_path / "own.reproduced").rglob("manifest.json"))
