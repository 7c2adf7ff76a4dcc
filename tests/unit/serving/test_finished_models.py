import shutil
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from delia_ray.cli.main import main
from delia_ray.core.artifacts import MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.placement import Engine, Replicas
from delia_ray.serving.engine_specs import assign_engines
from delia_ray.serving.finished_models import check_unchanged, find_finished_models, use_stored_dtype

CONFIG = str(Path(__file__).parents[3] / "jobs" / "configs" / "tiny.yaml")


class ModelRequest(Config):
    name: str


class ExportedRequest(ModelRequest):
    dtype: str


def build_artifact(folder: Path, kind: str = MODEL_KIND, dtype: str | None = None) -> Artifact:
    def write(workspace: Workspace) -> Counts:
        (workspace.data / "config.json").write_text("{}")
        return {}

    folder.parent.mkdir(parents=True, exist_ok=True)
    request = ModelRequest(name=str(folder)) if dtype is None else ExportedRequest(name=str(folder), dtype=dtype)
    return build_once(folder, stage="given/1", kind=kind, request=request, inputs={}, provenance=Provenance(None, []), write=write)


def test_the_base_model_comes_first(tmp_path: Path):
    sft, delia, base = (build_artifact(tmp_path / folder) for folder in ("arms/sft/model", "arms/delia/model", "base"))
    build_artifact(tmp_path / "arms/base/scores", "scores/1")
    models = find_finished_models(tmp_path)
    assert list(models) == ["base", "delia", "sft"]
    assert [model.fingerprint for model in models.values()] == [base.fingerprint, delia.fingerprint, sft.fingerprint]


def test_a_model_that_is_not_finished_is_left_out(tmp_path: Path):
    build_artifact(tmp_path / "arms/sft/model")
    (tmp_path / "arms/delia/model/data").mkdir(parents=True)
    assert list(find_finished_models(tmp_path)) == ["sft"]


@pytest.mark.parametrize("run", ["empty", "missing"])
def test_a_run_without_models_is_refused_with_the_verb_that_builds_them(tmp_path: Path, run: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=rf"{run} holds no finished model; .*delia export"):
        find_finished_models(tmp_path / run)


def test_something_else_in_a_models_place_is_refused(tmp_path: Path):
    build_artifact(tmp_path / "arms/sft/model", kind="scores/1")
    with pytest.raises(UserError, match=r"scores/1, but hf-model/1 is required"):
        find_finished_models(tmp_path)


def test_models_are_served_in_the_precision_that_they_were_stored_in(tmp_path: Path):
    models = {"base": build_artifact(tmp_path / "base"), "sft": build_artifact(tmp_path / "arms/sft/model", dtype="bfloat16")}
    assert use_stored_dtype(Engine(max_num_seqs=3), models) == Engine(max_num_seqs=3, dtype="bfloat16")


def test_a_configured_precision_is_kept(tmp_path: Path):
    models = {"sft": build_artifact(tmp_path / "arms/sft/model", dtype="bfloat16")}
    assert use_stored_dtype(Engine(dtype="float32"), models) == Engine(dtype="float32")


def test_a_base_model_alone_leaves_the_precision_open(tmp_path: Path):
    assert use_stored_dtype(Engine(), {"base": build_artifact(tmp_path / "base")}) == Engine()


@pytest.mark.parametrize(
    ("models", "words", "said"),
    [
        ((), [], "holds no finished model; build one first"),
        (("base", "arms/sft/model"), ["--arms", "sft,delia"], "has no finished model 'delia'; name some of base, sft"),
        (("base",), ["placement.serve.access.keys=nowhere"], "placement.serve.access.keys: nowhere: No such file or directory"),
    ],
    ids=["no model", "another model", "no keys"],
)
def test_what_cannot_be_served_is_refused_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    models: tuple[str, ...],
    words: list[str],
    said: str,
):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which a verb replaces
    (tmp_path / "tiny").mkdir()
    for place in models:
        build_artifact(tmp_path / "tiny" / place)
    with FileLock(tmp_path / "tiny" / ".lock"):  # of another process, which works on the run
        before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
        assert main(["serve", "--config", CONFIG, f"run.root={tmp_path}", *words]) == 2
        assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
    assert said in capsys.readouterr().err


def test_a_model_that_was_built_anew_is_not_served_under_its_old_fingerprint(tmp_path: Path):
    first = build_artifact(tmp_path / "arms/sft/model")
    (spec,) = assign_engines({"sft": first}, Replicas())
    check_unchanged(spec.model)
    shutil.rmtree(first.path)
    build_artifact(tmp_path / "arms/sft/model", dtype="float32")
    with pytest.raises(UserError, match="not what it was"):
        check_unchanged(spec.model)
    shutil.rmtree(first.path)
    with pytest.raises(UserError, match="not what it was"):
        check_unchanged(spec.model)
