from pathlib import Path

import pytest

from delia_ray.core.artifacts import Provenance, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.pipeline.reproduce.rebuild import check_unchanged
from delia_ray.settings import Settings
from delia_ray.tasks.stage import adopt_files


def test_a_file_that_is_not_what_it_was_is_named(tmp_path: Path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n")
    task = {"kind": "messages", "train": tmp_path / "train.jsonl", "test": tmp_path / "test.jsonl"}
    settings = Settings.model_validate({"run": {"name": "r"}, "task": task})

    made = build_once(
        tmp_path / "task", stage="task/2", kind="rows/1", request=Config(), inputs=adopt_files(settings.task),
        provenance=Provenance(None, ["pytest"]), write=lambda workspace: {},
    )  # fmt: skip
    check_unchanged(settings, "task", made.manifest)
    (tmp_path / "test.jsonl").write_text("{} \n")
    with pytest.raises(UserError, match=r"test\.jsonl has changed"):
        check_unchanged(settings, "task", made.manifest)
