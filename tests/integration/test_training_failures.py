"""Training that fails: a one-line error, and the last complete checkpoint is kept."""

import threading
import time
from pathlib import Path

import pytest
from training_runs import CONFIG, PROVENANCE, TOKEN, assert_same_curve, count_logged_steps, losses, train

from delia_ray.core.artifacts import Artifact
from delia_ray.core.errors import UserError
from delia_ray.models import ModelFolder
from delia_ray.placement import Engine, Replicas
from delia_ray.tasks.config import NoiseInit
from delia_ray.training.base_model import prepare_base
from delia_ray.training.export.forms import ExportRequest
from delia_ray.training.export.stage import export


def test_an_adapter_of_another_base_is_not_exported(reference: Artifact, mixed: Artifact, tiny_models: dict[str, Artifact], tmp_path: Path):
    other = ModelFolder(tiny_models["two"].data, tiny_models["two"].fingerprint)
    base = prepare_base(other, (TOKEN,), NoiseInit(), 1, tmp_path / "start", PROVENANCE)
    request, out = ExportRequest(new_tokens=(TOKEN,), dtype="float32"), tmp_path / "model"
    with pytest.raises(UserError, match=r"checkpoint was trained from another model than .*start; .*remove"):
        export(request, base, reference, mixed, Engine(), Replicas(), lambda _=None: None, "card", out, PROVENANCE)
    assert not out.exists()


def test_a_loss_that_is_not_finite_names_its_step_and_rows(local_ray: None, base: Artifact, mixed: Artifact, tmp_path: Path):
    config = CONFIG.model_copy(update={"learning_rate": 1e30, "warmup_steps": 0})
    with pytest.raises(UserError, match=r"step \d+: the loss is (nan|inf).* on rows (task|diverse)-\d+, .*learning_rate"):
        train(base, mixed, tmp_path / "checkpoint", config)
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.slow
def test_what_one_of_two_workers_lacks_ends_both_at_once(local_ray: None, base: Artifact, mixed: Artifact, tmp_path: Path):
    started = time.monotonic()
    with pytest.raises(UserError, match=r"trackers: `wandb` is not installed on the workers"):
        train(base, mixed, tmp_path / "checkpoint", workers=2, trackers=("wandb",))
    assert time.monotonic() - started < 300, "the other worker waits half an hour in a collective"


@pytest.mark.slow
@pytest.mark.parametrize("small_disk", [16], indirect=True, ids=["16 MiB"])
def test_a_full_disk_is_reported_and_training_resumes_from_the_last_checkpoint(
    reference: Artifact, base: Artifact, mixed: Artifact, tmp_path: Path, small_disk: Path
):
    out = small_disk / "checkpoint"
    threading.Thread(target=_fill_after, args=(small_disk, 25), daemon=True).start()
    with pytest.raises(UserError, match=r"run\.root: the disk below .* is full"):
        train(base, mixed, out, max_failures=0)
    kept = list(small_disk.glob(".checkpoint.inflight-*/checkpoints/step-*"))
    assert kept and not out.exists()
    (small_disk / "filler").unlink()
    assert_same_curve(losses(train(base, mixed, out)), losses(reference))


def _fill_after(folder: Path, steps: int) -> None:
    while count_logged_steps(folder) < steps:
        time.sleep(0.01)
    try:
        (folder / "filler").write_bytes(bytes(32 * 2**20))
    except OSError:
        return
