import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from object_store import Store

from delia_ray.core.errors import UserError
from delia_ray.core.mirrored_run import check_store
from delia_ray.core.storage.mirror import make_room
from delia_ray.core.storage.objects import exists, list_files, list_folders, read_bytes, remove, sum_sizes, write_bytes
from delia_ray.core.storage.paths import MIRROR_GIB, find_mirror, is_remote, mirror_uri, to_uri
from delia_ray.core.storage.stores import DeniedError
from delia_ray.core.storage.transfer import fetch, output_folder, publish
from delia_ray.core.storage.uploader import Uploader
from delia_ray.core.storage.watch import watch


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_a_path_in_the_mirror_says_which_object_it_is(tmp_path: Path):
    path = mirror_uri("s3://bucket/runs//tiny/", tmp_path)
    assert path is not None and path.is_relative_to(tmp_path)
    assert to_uri(path / "report" / "manifest.json") == "s3://bucket/runs/tiny/report/manifest.json"
    assert to_uri(path / ".report.partial" / "data" / "x") == "s3://bucket/runs/tiny/report/data/x"
    assert mirror_uri("runs", tmp_path) is None and not is_remote(tmp_path / "runs")


@pytest.mark.parametrize("uri", ["hdfs://host/runs", "s3://", "s3:///runs", "s3://bucket/../other", "http://x/y"])
def test_a_uri_that_cannot_be_used_is_refused_with_those_that_can(uri: str):
    with pytest.raises(UserError, match="s3://bucket/folder"):
        mirror_uri(uri)


def test_what_one_node_publishes_another_fetches(run: Path, other: Path):
    write(run / "model", **{"config.json": "{}", "weights": "123"})
    publish(run / "model")
    assert fetch(other / "model") == other / "model"
    assert {file.name: file.read_text() for file in (other / "model").iterdir()} == {"config.json": "{}", "weights": "123"}


def test_a_node_takes_on_the_newer_version_and_drops_what_is_gone(run: Path, other: Path):
    write(run / "model", a="1", b="2")
    publish(run / "model")
    fetch(other / "model")
    remove(run / "model")
    time.sleep(1.1)  # stores tell an object's time in seconds
    write(run / "model", a="3")
    publish(run / "model")
    fetch(other / "model")
    assert {file.name: file.read_text() for file in (other / "model").iterdir()} == {"a": "3"}


def test_what_a_node_has_is_not_fetched_again(run: Path, other: Path):
    write(run / "model", a="1")
    publish(run / "model")
    (before,) = [file.stat().st_ino for file in fetch(other / "model").iterdir()]
    (after,) = [file.stat().st_ino for file in fetch(other / "model").iterdir()]
    assert before == after


def test_only_the_files_that_are_needed_are_fetched(run: Path, other: Path):
    write(run / "model", **{"config.json": "{}", "model.safetensors": "123"})
    publish(run / "model")
    fetch(other / "model", lambda file: file.suffix == ".json")
    assert [file.name for file in (other / "model").iterdir()] == ["config.json"]


def test_files_are_listed_read_and_removed_without_a_copy(run: Path, other: Path):
    write_bytes(run / "cache" / "1.parquet", b"0123456789")
    write_bytes(run / "cache" / "deep" / "2.parquet", b"x")
    assert list_files(other / "cache", "*.parquet") == [other / "cache" / "1.parquet"]
    assert list_folders(other / "cache", "d*") == [other / "cache" / "deep"]
    assert (sum_sizes(other / "cache", "*.parquet"), read_bytes(other / "cache" / "1.parquet", start=7)) == (10, b"789")
    assert exists(other / "cache") and not other.exists()
    remove(other / "cache")
    assert not exists(run / "cache") and list_files(run / "cache") == []
    with pytest.raises(FileNotFoundError):
        read_bytes(run / "cache" / "1.parquet")


def test_an_output_holds_nothing_of_an_earlier_attempt_on_the_same_node(run: Path, store: Store, bucket: str):
    write(run / ".model.partial" / "data", old="1")
    with output_folder(run / ".model.partial" / "data"):
        write(run / ".model.partial" / "data", new="2")
    assert store.list(f"{bucket}/runs/r") == {"model/data/new": 1}
    assert (run / "model" / "data" / "new").read_text() == "2"


def test_files_that_grow_are_uploaded_and_those_that_go_are_removed(run: Path, store: Store, bucket: str):
    write(run, log="1")
    uploader = Uploader(lambda: run.glob("log*"), 0.05)
    deadline = time.monotonic() + 20
    while not store.list(f"{bucket}/runs/r") and time.monotonic() < deadline:
        time.sleep(0.05)
    write(run, log="12", log2="1")
    uploader.sync()
    assert store.list(f"{bucket}/runs/r") == {"log": 2, "log2": 1}
    (run / "log2").unlink()
    uploader.stop()
    uploader.sync()
    assert store.list(f"{bucket}/runs/r") == {"log": 2}


def test_a_file_that_another_node_writes_is_noticed(run: Path, other: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("delia_ray.core.storage.watch._SECONDS", 0.05)
    is_there = watch(run / "stop")
    assert not is_there()
    write_bytes(other / "stop", b"")
    deadline = time.monotonic() + 20
    while not is_there() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_there()


def test_a_store_that_fails_for_a_while_is_waited_for(run: Path, other: Path, store: Store):
    store.fail_for(6)
    write(run / "model", a="1", b="2")
    publish(run / "model")
    assert sorted(file.name for file in fetch(other / "model").iterdir()) == ["a", "b"]


def test_a_bucket_that_is_not_there_is_refused_in_a_line(store: Store, tmp_path: Path):
    path = mirror_uri("s3://no-such-bucket/runs", tmp_path)
    assert path is not None
    with pytest.raises(UserError, match=r"^run\.root: there is no bucket no-such-bucket"):
        check_store(path, "run.root")


def test_missing_rights_are_refused_in_a_line(run: Path, store: Store):
    with store.refusing(), pytest.raises(DeniedError, match=r"^run\.root: s3://.*: the object store refuses .*; give this machine"):
        check_store(run, "run.root")


def test_a_mirror_that_cannot_be_written_is_refused_in_a_line(tmp_path: Path):
    (tmp_path / "file").touch()
    path = mirror_uri("s3://bucket/runs", tmp_path / "file")
    assert path is not None
    with pytest.raises(UserError, match=r"^placement\.cluster\.mirror: cannot write"):
        check_store(path, "run.root")


def test_the_mirror_of_another_user_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(UserError, match="is another user's; name a folder of your own"):
        check_store(run, "run.root")


def test_a_full_mirror_drops_what_no_process_uses_and_keeps_what_one_does(run: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("used", "unused"):
        write(run / name, data="x" * 1000)
        publish(run / name)
    # Another process has fetched both and holds one of them.
    code = (
        "import sys; from pathlib import Path; from delia_ray.core.storage.transfer import fetch;"
        "fetch(Path(sys.argv[1])); print('there', flush=True); sys.stdin.read()"
    )
    mirror = find_mirror(run)
    for record in (mirror / ".used").iterdir():
        record.unlink()  # this process's own, whose locks are on files that are gone now
    finished, holding = (
        subprocess.Popen(
            [sys.executable, "-c", code, str(run / name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ.copy()
        )
        for name in ("unused", "used")
    )
    for process in (finished, holding):
        assert process.stdout is not None and process.stdout.readline() == b"there\n"
    finished.communicate()
    monkeypatch.setenv(MIRROR_GIB, str(1500 / 2**30))
    make_room(mirror, 0)
    assert not (run / "unused").exists() and (run / "used" / "data").exists()
    holding.communicate()
