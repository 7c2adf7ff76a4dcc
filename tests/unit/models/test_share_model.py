"""A model that lies where all nodes of a cluster see it."""

import os
import time
from pathlib import Path

import pytest

from delia_ray.models import ModelFolder, share_model


@pytest.fixture
def model(tmp_path: Path) -> ModelFolder:
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (blobs / name).write_text(name)
        (folder / name).symlink_to(blobs / name)  # as in the cache of the hub
    (folder / "pytorch_model.bin").write_text("is not taken")
    return ModelFolder(folder, "abc", (("enable_thinking", False),))


def test_the_files_that_count_lie_below_the_runs_as_the_same_model(model: ModelFolder, tmp_path: Path):
    shared = share_model(model, tmp_path / "runs")
    assert shared.path == tmp_path / "runs" / ".models" / "abc"
    assert (shared.fingerprint, shared.template_arguments) == (model.fingerprint, model.template_arguments)
    assert {file.name: file.read_text() for file in shared.path.iterdir()} == {
        name: name for name in ("config.json", "model.safetensors", "tokenizer.json")
    }
    assert not any(file.is_symlink() for file in shared.path.iterdir())


def test_a_file_system_without_hard_links_gets_copies(model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Path, target: Path) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    shared = share_model(model, tmp_path / "runs")
    assert (shared.path / "model.safetensors").read_text() == "model.safetensors"
    assert not os.path.samefile(shared.path / "model.safetensors", model.path / "model.safetensors")


def test_a_model_that_lies_there_is_not_touched_and_an_unfinished_copy_is_not_taken_for_one(model: ModelFolder, tmp_path: Path):
    (tmp_path / "runs" / ".models" / ".partial-dead").mkdir(parents=True)
    share_model(model, tmp_path / "runs")
    (tmp_path / "runs" / ".models" / "abc" / "mark").touch()
    assert (share_model(model, tmp_path / "runs").path / "mark").exists()


def test_what_a_killed_run_left_half_copied_is_removed_after_a_day_and_not_before(model: ModelFolder, tmp_path: Path):
    models = tmp_path / "runs" / ".models"
    for name, hours in (("dead", 25), ("alive", 1)):
        (models / f".partial-{name}").mkdir(parents=True)
        then = time.time() - hours * 3600
        os.utime(models / f".partial-{name}", (then, then))
    share_model(model, tmp_path / "runs")
    assert {each.name for each in models.iterdir()} == {"abc", ".partial-alive"}
