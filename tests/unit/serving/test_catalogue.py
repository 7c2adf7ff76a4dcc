from pathlib import Path

import pytest

from delia_ray.artifacts import MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.placement import Engine
from delia_ray.serving.catalogue import as_stored, finished_models


class Given(Config):
    name: str


class Stored(Given):
    dtype: str


def finish(place: Path, kind: str = MODEL_KIND, dtype: str | None = None) -> Artifact:
    def write(workspace: Workspace) -> Counts:
        (workspace.data / "config.json").write_text("{}")
        return {}

    place.parent.mkdir(parents=True, exist_ok=True)
    given = Given(name=str(place)) if dtype is None else Stored(name=str(place), dtype=dtype)
    return build_once(place, stage="given/1", kind=kind, request=given, inputs={}, provenance=Provenance(None, []), write=write)


def test_the_start_model_is_called_base_and_comes_first(tmp_path: Path):
    it, delia, start = (finish(tmp_path / place) for place in ("arms/it/model", "arms/delia/model", "start"))
    finish(tmp_path / "arms/base/scores", "scores/1")
    found = finished_models(tmp_path)
    assert list(found) == ["base", "delia", "it"]
    assert [model.fingerprint for model in found.values()] == [start.fingerprint, delia.fingerprint, it.fingerprint]


def test_a_model_that_is_not_finished_is_left_out(tmp_path: Path):
    finish(tmp_path / "arms/it/model")
    (tmp_path / "arms/delia/model/data").mkdir(parents=True)
    assert list(finished_models(tmp_path)) == ["it"]


@pytest.mark.parametrize("run", ["empty", "missing"])
def test_a_run_without_models_is_refused_with_the_verb_that_builds_them(tmp_path: Path, run: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=rf"{run} holds no finished model; .*delia export"):
        finished_models(tmp_path / run)


def test_something_else_in_a_models_place_is_refused(tmp_path: Path):
    finish(tmp_path / "arms/it/model", kind="scores/1")
    with pytest.raises(UserError, match=r"scores/1, but hf-model/1 is wanted"):
        finished_models(tmp_path)


def test_models_are_served_in_the_precision_that_they_were_stored_in(tmp_path: Path):
    models = {"base": finish(tmp_path / "start"), "it": finish(tmp_path / "arms/it/model", dtype="bfloat16")}
    assert as_stored(Engine(max_num_seqs=3), models) == Engine(max_num_seqs=3, dtype="bfloat16")


def test_a_precision_that_was_asked_for_stays(tmp_path: Path):
    models = {"it": finish(tmp_path / "arms/it/model", dtype="bfloat16")}
    assert as_stored(Engine(dtype="float32"), models) == Engine(dtype="float32")


def test_a_start_model_alone_leaves_the_precision_open(tmp_path: Path):
    assert as_stored(Engine(), {"base": finish(tmp_path / "start")}) == Engine()
