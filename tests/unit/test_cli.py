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
