import sys
from pathlib import Path

import pytest

from delia_ray.cli import main

CONFIG = str(Path(__file__).parents[2] / "jobs" / "configs" / "tiny.yaml")


def test_what_cannot_be_probed_is_refused_with_what_can(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["probe", "weights", "--config", CONFIG, f"run.root={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert "'weights'" in said and "gradients" in said
    assert not list(tmp_path.iterdir())


def test_only_the_probe_takes_a_word_that_is_no_setting(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["mix", "gradients", "--config", CONFIG, f"run.root={tmp_path}"]) == 2
    assert "KEY=VALUE" in capsys.readouterr().err


def test_the_settings_around_the_subject_are_still_read(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["probe", f"run.root={tmp_path}", "gradients", "mix.ration=1", "--config", CONFIG]) == 2
    assert "mix.ration: unknown key" in capsys.readouterr().err


def test_serving_finished_models_never_writes_the_runs_record(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which a verb replaces
    words = ["--config", CONFIG, f"run.root={tmp_path}", "model=./nowhere"]
    for place in ("start", "arms/it/model", "arms/delia/model"):
        (tmp_path / "tiny" / place).mkdir(parents=True)
        (tmp_path / "tiny" / place / "manifest.json").write_text("{}")
    record = tmp_path / "tiny/config.yaml"
    record.write_text("recorded: yes\n")
    before = record.stat()
    assert main(["serve", *words, "arms.it=null"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert (record.stat().st_ino, record.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
