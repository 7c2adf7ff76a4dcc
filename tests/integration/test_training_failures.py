"""Training that cannot end well: one clear line, and the last good checkpoint stays."""

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from training_runs import CONFIG, PROVENANCE, TOKEN, assert_same_curve, losses, steps_in, train

from delia_ray.artifacts import Artifact
from delia_ray.errors import UserError
from delia_ray.models import ModelFolder
from delia_ray.placement import Engine, Replicas
from delia_ray.tasks.config import NoiseInit
from delia_ray.training.export import ExportRequest, export
from delia_ray.training.start import prepare_start


def test_an_adapter_of_another_base_is_not_exported(reference: Artifact, mixed: Artifact, tiny_models: dict[str, Artifact], tmp_path: Path):
    other = ModelFolder(tiny_models["two"].data, tiny_models["two"].fingerprint)
    start = prepare_start(other, (TOKEN,), NoiseInit(), 1, tmp_path / "start", PROVENANCE)
    request, place = ExportRequest(new_tokens=(TOKEN,), dtype="float32"), tmp_path / "model"
    with pytest.raises(UserError, match=r"checkpoint was trained from another model than .*start; .*remove"):
        export(request, start, reference, mixed, Engine(), Replicas(), lambda: None, "card", place, PROVENANCE)
    assert not place.exists()


def test_a_loss_that_is_no_number_names_its_step_and_rows(local_ray: None, start: Artifact, mixed: Artifact, tmp_path: Path):
    config = CONFIG.model_copy(update={"learning_rate": 1e30, "warmup_steps": 0})
    with pytest.raises(UserError, match=r"step \d+: the loss is (nan|inf).* on rows (task|diverse)-\d+, .*learning_rate"):
        train(start, mixed, tmp_path / "checkpoint", config)
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.slow
def test_a_full_disk_is_told_and_its_last_checkpoint_goes_on(
    reference: Artifact, start: Artifact, mixed: Artifact, tmp_path: Path, small_disk: Path
):
    out = small_disk / "checkpoint"
    threading.Thread(target=_fill_after, args=(small_disk, 25), daemon=True).start()
    with pytest.raises(UserError, match=r"run\.root: the disk below .* is full"):
        train(start, mixed, out, max_failures=0)
    kept = list(small_disk.glob(".checkpoint.inflight-*/checkpoints/step-*"))
    assert kept and not out.exists()
    (small_disk / "filler").unlink()
    assert_same_curve(losses(train(start, mixed, out)), losses(reference))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], check=False, capture_output=True).returncode:
        pytest.skip("a small disk is a tmpfs, which this user may not mount")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill_after(folder: Path, steps: int) -> None:
    while steps_in(folder) < steps:
        time.sleep(0.01)
    try:
        (folder / "filler").write_bytes(bytes(32 * 2**20))
    except OSError:
        return
