from collections.abc import Callable
from pathlib import Path

import pytest
from object_store import Store

from delia_ray.core.artifacts import Adopted, Artifact, Counts, Provenance, StaleArtifactError, Workspace, build_once, retire_artifact
from delia_ray.core.config import Config
from delia_ray.core.lineage import read_manifests
from delia_ray.core.mirrored_run import pull_run
from delia_ray.core.storage.transfer import output_folder


class Request(Config):
    seed: int = 0


INPUTS = {"file": Adopted(Path("x"), "0123456789ab")}


def build(out: Path, write: Callable[[Workspace], Counts], request: Request | None = None) -> Artifact:
    origin = Provenance(None, ["pytest"])
    return build_once(out, stage="example/1", kind="text/1", request=request or Request(), inputs=INPUTS, provenance=origin, write=write)


def write_file(workspace: Workspace) -> Counts:
    (workspace.data / "file.txt").write_text("content")
    return {"rows": 1}


def fail(workspace: Workspace) -> Counts:
    raise AssertionError("a finished artifact is not built again")


def test_an_artifact_is_in_the_bucket_with_its_manifest_and_nothing_else(run: Path, store: Store, bucket: str):
    built = build(run / "out", write_file)
    assert set(store.list(f"{bucket}/runs/r")) == {"out/manifest.json", "out/data/file.txt"}
    assert built.fetch("file.txt").read_text() == "content"


def test_another_machine_reuses_it_and_fetches_its_data_only_where_they_are_read(run: Path, other: Path):
    first = build(run / "out", write_file)
    again = build(other / "out", fail)
    assert again.manifest == first.manifest and not again.data.exists()
    assert again.fetch("file.txt").read_text() == "content"


def test_another_request_is_refused_by_the_uri(run: Path, other: Path, bucket: str):
    build(run / "out", write_file)
    with pytest.raises(StaleArtifactError, match=rf"^s3://{bucket}/runs/r/out was built from another request: request\.seed: 0 -> 1"):
        build(other / "out", fail, Request(seed=1))


def test_files_of_a_killed_attempt_are_in_no_later_one(run: Path, other: Path, store: Store, bucket: str):
    def killed(workspace: Workspace) -> Counts:
        with output_folder(workspace.data / "kept"):
            (workspace.data / "kept" / "half.txt").write_text("half")
        (workspace.data / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(run / "out", killed)
    assert set(store.list(f"{bucket}/runs/r")) == {"out/data/kept/half.txt"}
    for node in (other, run):
        pull_run(node)
        assert read_manifests(node) == {}
    build(other / "out", write_file)
    built = build(run / "out", fail)
    assert {file.name for file in built.fetch().rglob("*")} == {"file.txt"}


def test_checkpoints_survive_a_killed_attempt_and_go_with_another_request(run: Path, other: Path, store: Store, bucket: str):
    def killed(workspace: Workspace) -> Counts:
        with output_folder(workspace.inflight / "step-1"):
            (workspace.inflight / "step-1" / "state").write_text("7")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(run / "out", killed)
    (kept,) = store.list(f"{bucket}/runs/r")
    assert kept.startswith(".out.inflight-") and kept.endswith("/step-1/state")
    build(other / "out", write_file, Request(seed=1))
    assert set(store.list(f"{bucket}/runs/r")) == {"out/manifest.json", "out/data/file.txt"}


def test_a_retired_artifact_is_gone_for_every_machine(run: Path, other: Path, store: Store, bucket: str):
    build(run / "out", write_file)
    build(other / "out", fail).fetch("file.txt")
    retire_artifact(run / "out")
    assert store.list(f"{bucket}/runs/r") == {}
    pull_run(other)
    assert read_manifests(other) == {}
