"""A block in which nothing is built: what is finished is opened and compared, and nothing is left behind."""

from pathlib import Path

import pytest

from delia_ray.core.artifacts import Artifact, Counts, Provenance, StaleArtifactError, Workspace, build_once, retire_artifact
from delia_ray.core.building import UnfinishedError, building_nothing, may_build
from delia_ray.core.config import Config


class Request(Config):
    rows: int


def build(path: Path, rows: int = 1) -> Artifact:
    def write(workspace: Workspace) -> Counts:
        (workspace.data / "rows.txt").write_text(str(rows))
        return {"rows": rows}

    return build_once(
        path, stage="rows/1", kind="rows/1", request=Request(rows=rows), inputs={}, provenance=Provenance(None, []), write=write
    )


def test_what_is_finished_is_opened_and_what_is_not_is_refused_without_a_trace(tmp_path: Path):
    built = build(tmp_path / "rows")
    with building_nothing():
        assert build(tmp_path / "rows") == built
        with pytest.raises(UnfinishedError):
            build(tmp_path / "others")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "rows"]


def test_what_was_made_from_another_request_is_named_with_its_place(tmp_path: Path):
    build(tmp_path / "rows")
    with building_nothing(), pytest.raises(StaleArtifactError, match=r"request\.rows: 1 -> 2") as stale:
        build(tmp_path / "rows", rows=2)
    assert stale.value.path == tmp_path / "rows"


def test_nothing_is_retired(tmp_path: Path):
    build(tmp_path / "rows")
    with building_nothing(), pytest.raises(UnfinishedError):
        retire_artifact(tmp_path / "rows")
    assert (tmp_path / "rows" / "manifest.json").exists()


def test_after_the_block_artifacts_are_built_again(tmp_path: Path):
    with pytest.raises(UnfinishedError), building_nothing():
        build(tmp_path / "rows")
    assert may_build() and build(tmp_path / "rows").manifest.counts == {"rows": 1}
