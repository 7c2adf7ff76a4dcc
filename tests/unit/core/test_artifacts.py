from collections.abc import Callable
from pathlib import Path

import pytest

from delia_ray.core.artifacts import Adopted, Artifact, Counts, Provenance, StaleArtifactError, Workspace, build_once, retire_artifact
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.lineage import describe_artifacts, find_descendants


class Request(Config):
    seed: int = 0
    name: str = "a"


PROVENANCE = Provenance(None, ["pytest"])
INPUTS = {"file": Adopted(Path("x"), "0123456789ab")}


def build(out: Path, request: Request, write: Callable[[Workspace], Counts]) -> Artifact:
    return build_once(out, stage="example/1", kind="text/1", request=request, inputs=INPUTS, provenance=PROVENANCE, write=write)


def write_file(workspace: Workspace) -> Counts:
    (workspace.data / "file.txt").write_text("content")
    return {"rows": 1}


def fail(workspace: Workspace) -> Counts:
    raise AssertionError("a finished artifact is not built again")


def test_the_same_request_is_not_built_twice(tmp_path: Path):
    first = build(tmp_path / "out", Request(), write_file)
    again = build(tmp_path / "out", Request(), fail)
    assert again.manifest == first.manifest
    assert (again.data / "file.txt").read_text() == "content"


def test_another_request_at_the_same_path_is_refused_and_the_changed_field_named(tmp_path: Path):
    build(tmp_path / "out", Request(), write_file)
    with pytest.raises(StaleArtifactError, match=r"request\.seed: 0 -> 1.*run\.name"):
        build(tmp_path / "out", Request(seed=1), fail)


def test_a_killed_attempt_leaves_nothing_to_read_and_its_inflight_files_to_the_next(tmp_path: Path):
    def killed(workspace: Workspace) -> Counts:
        (workspace.data / "half.txt").write_text("half")
        (workspace.inflight / "checkpoint").write_text("7")
        raise KeyboardInterrupt

    def resumed(workspace: Workspace) -> Counts:
        assert (workspace.inflight / "checkpoint").read_text() == "7"
        assert list(workspace.data.iterdir()) == []
        return write_file(workspace)

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "out", Request(), killed)
    with pytest.raises(UserError, match="has not finished"):
        Artifact.open(tmp_path / "out", "text/1")
    build(tmp_path / "out", Request(), resumed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_inflight_files_of_another_request_are_not_taken_over(tmp_path: Path):
    def killed(workspace: Workspace) -> Counts:
        (workspace.inflight / "checkpoint").write_text("7")
        raise KeyboardInterrupt

    def fresh(workspace: Workspace) -> Counts:
        assert list(workspace.inflight.iterdir()) == []
        return write_file(workspace)

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "out", Request(), killed)
    build(tmp_path / "out", Request(seed=1), fresh)


def test_an_artifact_of_another_kind_is_refused(tmp_path: Path):
    build(tmp_path / "out", Request(), write_file)
    with pytest.raises(UserError, match="holds text/1, but model/1 is required"):
        Artifact.open(tmp_path / "out", "model/1")


def test_a_folder_without_write_permission_is_refused():
    with pytest.raises(UserError, match=r"run\.root: cannot write /proc"):
        build(Path("/proc/none/out"), Request(), write_file)


def test_whoever_may_read_a_runs_folders_may_read_its_files(tmp_path: Path):
    def private(workspace: Workspace) -> Counts:
        (workspace.data / "weights").write_text("1")
        (workspace.data / "weights").chmod(0o600)
        return {}

    def mode(path: Path) -> int:
        return path.stat().st_mode & 0o777

    data = build(tmp_path / "out", Request(), private).data
    assert mode(data / "weights") == mode(data) & 0o444 | 0o600


def test_each_artifact_is_listed_with_its_inputs(tmp_path: Path):
    first = build(tmp_path / "first", Request(), write_file)
    build_once(
        tmp_path / "arms/x/second",
        stage="s/1",
        kind="k",
        request=Request(),
        inputs={"first": first},
        provenance=PROVENANCE,
        write=write_file,
    )
    lines = list(describe_artifacts(tmp_path))
    assert [line.split()[0] for line in lines] == ["first", "arms/x/second"]
    assert f"first {first.fingerprint} (first)" in lines[1]
    assert "(from outside)" in lines[0]


def test_direct_and_indirect_descendants_are_found(tmp_path: Path):
    def build_from(place: str, seed: int, **inputs: Artifact) -> Artifact:
        arguments = {"inputs": inputs, "provenance": PROVENANCE, "write": write_file}
        return build_once(tmp_path / place, stage="s/1", kind="k", request=Request(seed=seed), **arguments)

    root, other = build_from("root", 0), build_from("other", 1)
    child = build_from("child", 2, root=root)
    build_from("pools/a/leaf", 3, child=child, other=other)
    build_from("apart", 4, other=other)
    assert list(find_descendants(tmp_path, root.fingerprint)) == ["child", "pools/a/leaf"]
    assert list(find_descendants(tmp_path, "nothing")) == []


def test_a_retired_artifact_can_be_built_from_another_request(tmp_path: Path):
    build(tmp_path / "out", Request(), write_file)
    retire_artifact(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    assert build(tmp_path / "out", Request(seed=1), write_file).manifest.request["seed"] == 1
