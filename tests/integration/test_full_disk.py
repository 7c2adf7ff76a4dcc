"""A disk that fills up while a run writes to it, from the driver or from a worker: one line, and nothing finished is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from delia_ray.cli.main import main
from delia_ray.core.artifacts import Artifact

TINY = str(Path(__file__).parents[2] / "jobs/configs/tiny.yaml")
pytestmark = pytest.mark.usefixtures("local_ray")


def fill(disk: Path, spare_kib: int) -> None:
    """All but so much of the disk."""
    free = int(subprocess.run(["df", "-Pk", disk], capture_output=True, text=True, check=True).stdout.splitlines()[1].split()[3])
    (disk / "filler").write_bytes(bytes((free - spare_kib) * 1024))


@pytest.mark.parametrize("small_disk", [2], indirect=True, ids=["2 MiB"])
@pytest.mark.parametrize("spare_kib", [0, 24, 44, 64, 84])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on_when_there_is_room(
    tiny_models: dict[str, Artifact],
    small_disk: Path,
    spare_kib: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which a verb replaces
    words = ["mix", "--config", TINY, f"run.root={small_disk}", f"model={tiny_models['one'].data}"]
    assert main(["rewrite", *words[1:]]) == 0
    before = {file: file.stat().st_mtime_ns for file in small_disk.rglob("manifest.json")}
    capsys.readouterr()
    fill(small_disk, spare_kib)
    assert main(words) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("delia: ")]
    assert len(said) == 1 and str(small_disk) in said[0] and ("is full" in said[0] or "No space left" in said[0]), said
    assert {file: file.stat().st_mtime_ns for file in before} == before
    (small_disk / "filler").unlink()
    assert main(words) == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
