import json
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from delia_ray.core.errors import BusyError
from delia_ray.core.mirrored_run import drive_mirrored
from delia_ray.core.storage import lease
from delia_ray.core.storage.lease import hold_lease
from delia_ray.core.storage.objects import exists, read_bytes, write_bytes


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    for name, seconds in (("_RENEW_SECONDS", 0.2), ("_FREE_SECONDS", 2.0), ("_SETTLE_SECONDS", 0.2)):
        monkeypatch.setattr(lease, name, seconds)


def test_a_second_machine_is_kept_out_and_let_in_afterwards(run: Path, other: Path):
    with hold_lease(run, print), pytest.raises(BusyError, match="is working on s3://"), hold_lease(other, print):
        pass
    with hold_lease(other, print):
        assert exists(run / ".lease")
    assert not exists(run / ".lease")


def test_a_second_process_of_the_same_machine_is_kept_out(run: Path):
    with hold_lease(run, print), pytest.raises(BusyError, match="another process"), hold_lease(run, print):
        pass


def test_the_lease_of_a_killed_process_is_free_for_another_machine_after_a_while(run: Path, other: Path):
    code = (
        "import sys; from pathlib import Path; from delia_ray.core.storage.lease import hold_lease\n"
        "with hold_lease(Path(sys.argv[1]), print): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    said: list[str] = []
    start = time.monotonic()
    with hold_lease(other, said.append):
        assert 2.0 <= time.monotonic() - start < 20.0
    assert "it is free after 2 s" in said[0]


@pytest.fixture
def ignored_interrupt() -> Generator[None]:
    """SIGINT is ignored, as in what a shell script starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ignored_interrupt")
def test_an_owner_that_finds_another_in_the_lease_stops(run: Path):
    with pytest.raises(BusyError, match="is working on s3://"), hold_lease(run, print):
        for _ in range(20):  # a renewal that had just read its own name writes over the first
            write_bytes(run / ".lease", json.dumps({**json.loads(read_bytes(run / ".lease")), "owner": "another"}).encode())
            time.sleep(1)
    assert json.loads(read_bytes(run / ".lease"))["owner"] == "another"


def test_small_files_of_a_driver_are_there_for_the_next_one(run: Path, other: Path):
    with drive_mirrored(run, print):
        (run / "config.yaml").write_text("seed: 1")
        (run / "logs").mkdir()
        (run / "logs" / "run.log").write_text("said")
    with drive_mirrored(other, print):
        assert (other / "config.yaml").read_text() == "seed: 1"
        assert (other / "logs" / "run.log").read_text() == "said"
        (other / "config.yaml").unlink()
    assert not exists(run / "config.yaml")
