from collections.abc import Callable
from pathlib import Path

import pytest

from delia_ray.artifacts import Adopted, Artifact, Counts, Provenance, StaleArtifactError, Workspace, build_once, retire
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.lineage import made_from, show


class Wish(Config):
    seed: int = 0
    name: str = "a"


PROVENANCE = Provenance(None, ["pytest"])
GIVEN = {"file": Adopted(Path("x"), "0123456789ab")}


def build(out: Path, wish: Wish, write: Callable[[Workspace], Counts]) -> Artifact:
    return build_once(out, stage="wish/1", kind="text/1", request=wish, inputs=GIVEN, provenance=PROVENANCE, write=write)


def granted(workspace: Workspace) -> Counts:
    (workspace.data / "wish.txt").write_text("granted")
    return {"rows": 1}


def never(workspace: Workspace) -> Counts:
    raise AssertionError("this artifact is finished")


def test_the_same_request_is_not_built_twice(tmp_path: Path):
    first = build(tmp_path / "wish", Wish(), granted)
    again = build(tmp_path / "wish", Wish(), never)
    assert again.manifest == first.manifest
    assert (again.data / "wish.txt").read_text() == "granted"


def test_another_request_at_the_same_place_is_refused_and_the_changed_field_named(tmp_path: Path):
    build(tmp_path / "wish", Wish(), granted)
    with pytest.raises(StaleArtifactError, match=r"request\.seed: 0 -> 1.*run\.name"):
        build(tmp_path / "wish", Wish(seed=1), never)


def test_a_killed_attempt_leaves_nothing_to_read_and_its_inflight_files_to_the_next(tmp_path: Path):
    def killed(workspace: Workspace) -> Counts:
        (workspace.data / "half.txt").write_text("half")
        (workspace.inflight / "checkpoint").write_text("7")
        raise KeyboardInterrupt

    def resumed(workspace: Workspace) -> Counts:
        assert (workspace.inflight / "checkpoint").read_text() == "7"
        assert list(workspace.data.iterdir()) == []
        return granted(workspace)

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "wish", Wish(), killed)
    with pytest.raises(UserError, match="has not finished"):
        Artifact.open(tmp_path / "wish", "text/1")
    build(tmp_path / "wish", Wish(), resumed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wish"]


def test_inflight_files_of_another_request_are_not_taken_over(tmp_path: Path):
    def killed(workspace: Workspace) -> Counts:
        (workspace.inflight / "checkpoint").write_text("7")
        raise KeyboardInterrupt

    def fresh(workspace: Workspace) -> Counts:
        assert list(workspace.inflight.iterdir()) == []
        return granted(workspace)

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "wish", Wish(), killed)
    build(tmp_path / "wish", Wish(seed=1), fresh)


def test_an_artifact_of_another_kind_is_refused(tmp_path: Path):
    build(tmp_path / "wish", Wish(), granted)
    with pytest.raises(UserError, match="holds text/1, but model/1 is wanted"):
        Artifact.open(tmp_path / "wish", "model/1")


def test_a_place_that_no_one_can_write_to_is_refused():
    with pytest.raises(UserError, match=r"run\.root: cannot write /proc"):
        build(Path("/proc/none/wish"), Wish(), granted)


def test_show_names_what_each_artifact_was_made_from(tmp_path: Path):
    first = build(tmp_path / "first", Wish(), granted)
    build_once(
        tmp_path / "arms/x/second", stage="s/1", kind="k", request=Wish(), inputs={"first": first}, provenance=PROVENANCE, write=granted
    )
    lines = list(show(tmp_path))
    assert [line.split()[0] for line in lines] == ["first", "arms/x/second"]
    assert f"first {first.fingerprint} (first)" in lines[1]
    assert "(from outside)" in lines[0]


def test_what_was_made_from_an_artifact_is_found_at_any_remove(tmp_path: Path):
    def grow(place: str, seed: int, **inputs: Artifact) -> Artifact:
        given = {"inputs": inputs, "provenance": PROVENANCE, "write": granted}
        return build_once(tmp_path / place, stage="s/1", kind="k", request=Wish(seed=seed), **given)

    root, other = grow("root", 0), grow("other", 1)
    child = grow("child", 2, root=root)
    grow("pools/a/leaf", 3, child=child, other=other)
    grow("apart", 4, other=other)
    assert list(made_from(tmp_path, root.fingerprint)) == ["child", "pools/a/leaf"]
    assert list(made_from(tmp_path, "nothing")) == []


def test_a_retired_artifact_makes_room_for_another_request(tmp_path: Path):
    build(tmp_path / "wish", Wish(), granted)
    retire(tmp_path / "wish")
    assert list(tmp_path.iterdir()) == []
    assert build(tmp_path / "wish", Wish(seed=1), granted).manifest.request["seed"] == 1
