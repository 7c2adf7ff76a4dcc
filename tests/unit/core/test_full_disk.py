import errno
from pathlib import Path

import pytest
from safetensors import SafetensorError

from delia_ray.core.errors import UserError
from delia_ray.core.full_disk import FullDiskGuard, is_full_disk


class TaskError(Exception):
    """Stand-in for Ray's task error: its own text, and the worker's exception under ``cause``."""

    def __init__(self, cause: Exception):
        super().__init__("task failed")
        self.cause = cause


class TrainingError(Exception):
    """Stand-in for Ray Train's error, with workers' exceptions under ``worker_failures``."""

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
def test_a_full_disk_is_reported_on_one_line_for_every_exception_type(tmp_path: Path, error: Exception):
    with pytest.raises(UserError, match=r"the disk of .* is full .*free some.*what is finished is kept") as caught, FullDiskGuard(tmp_path):
        raise error
    assert "\n" not in str(caught.value)


def test_nested_causes_are_searched():
    try:
        try:
            raise FULL
        except OSError as error:
            raise ValueError("could not save") from error
    except ValueError as error:
        assert is_full_disk(error)


def test_the_largest_runs_are_named(tmp_path: Path):
    for name, size in (("small", 1), ("large", 3), ("mine", 2)):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data/rows").write_bytes(bytes(size * 2**20))
    with pytest.raises(UserError, match=r"large 3 MiB, .*mine 2 MiB, .*small 1 MiB"), FullDiskGuard(tmp_path / "mine"):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "mine/data/more"))


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), ValueError("no space between words"), KeyboardInterrupt()])
def test_other_exceptions_pass_unchanged(tmp_path: Path, error: BaseException):
    with pytest.raises(type(error)) as caught, FullDiskGuard(tmp_path):
        raise error
    assert caught.value is error
