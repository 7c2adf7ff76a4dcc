import errno
from pathlib import Path

import pytest
from safetensors import SafetensorError

from delia_ray.errors import UserError
from delia_ray.full_disk import TellsFullDisk, is_full_disk


class TaskError(Exception):
    """As Ray hands a worker's exception over: its own text, and the exception under ``cause``."""

    def __init__(self, cause: Exception):
        super().__init__("task failed")
        self.cause = cause


class TrainingError(Exception):
    """As Ray Train does."""

    def __init__(self, failure: Exception):
        super().__init__("training failed")
        self.worker_failures = {0: failure}


FULL = OSError(errno.ENOSPC, "No space left on device", "/some/file")


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        TaskError(FULL),
        TrainingError(TaskError(FULL)),
        RuntimeError("worker", TaskError(FULL)),
        SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'),
        RuntimeError("trial failed: Traceback ... OSError: [Errno 28] Error writing bytes to file. Detail: No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_full_disk_is_one_line_whatever_brought_the_news(tmp_path: Path, error: Exception):
    with pytest.raises(UserError, match=r"the disk of .* is full .*free some.*what is finished is kept") as caught, TellsFullDisk(tmp_path):
        raise error
    assert "\n" not in str(caught.value)


def test_the_reason_of_a_reason_counts():
    try:
        try:
            raise FULL
        except OSError as error:
            raise ValueError("could not save") from error
    except ValueError as error:
        assert is_full_disk(error)


def test_the_runs_that_take_most_room_are_named(tmp_path: Path):
    for name, size in (("small", 1), ("large", 3), ("mine", 2)):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data/rows").write_bytes(bytes(size * 2**20))
    with pytest.raises(UserError, match=r"large 3 MiB, .*mine 2 MiB, .*small 1 MiB"), TellsFullDisk(tmp_path / "mine"):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "mine/data/more"))


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), ValueError("no space between words"), KeyboardInterrupt()])
def test_what_is_no_full_disk_passes_as_it_is(tmp_path: Path, error: BaseException):
    with pytest.raises(type(error)) as caught, TellsFullDisk(tmp_path):
        raise error
    assert caught.value is error
