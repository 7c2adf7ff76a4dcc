"""The process around a verb: its log, its lock on the run, and what is said when it fails."""

import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from delia_ray.core.artifacts import Provenance
from delia_ray.core.errors import BusyError, LostError, UserError
from delia_ray.core.full_disk import FullDiskGuard
from delia_ray.core.layout import RunLayout
from delia_ray.core.mirrored_run import check_store, drive_mirrored
from delia_ray.core.storage.paths import to_uri
from delia_ray.core.storage.transfer import publish
from delia_ray.placement import Placement

if TYPE_CHECKING:
    from delia_ray.cli.log import RunLog
    from delia_ray.cli.terminal import Terminal

COMMIT = "DELIA_COMMIT"
"""Environment variable of a job: the commit of the working folder that was submitted, which has no ``.git`` there."""
_TAIL_LINES = 30
_JOB_FOLDERS = "/runtime_resources/working_dir_files/"


@contextmanager
def session(verb: str, layout: RunLayout, placement: Placement) -> Generator["Terminal"]:
    """Send the output of libraries to the verb's log, hold the run's lock, and yield the terminal.

    Raises:
        UserError: the run cannot be written, another process works on it, or the disk is full.
    """
    from delia_ray.cli.log import RunLog, writes_json  # noqa: PLC0415  --help needs no terminal
    from delia_ray.cli.terminal import Terminal  # noqa: PLC0415  as above

    _check_root(layout.root.parent)
    log = RunLog(layout.log(verb), layout.root.name, as_json=writes_json(placement, on_terminal=sys.stdout.isatty()))
    sys.excepthook = partial(_show_failure, verb, log)
    with (
        drive_mirrored(layout.root, partial(print, flush=True)),
        _without_traces(layout),
        log.redirect() as stream,
        FullDiskGuard(layout.root),
        _locked(layout),
    ):
        yield Terminal(stream, log)


@contextmanager
def reading_session(verb: str, layout: RunLayout, placement: Placement) -> Generator[tuple["Terminal", Path]]:
    """Send the output of libraries to a log that is none of the run's, which is only read; yield the terminal and the log."""
    from delia_ray.cli.log import RunLog, writes_json  # noqa: PLC0415  --help needs no terminal
    from delia_ray.cli.terminal import Terminal  # noqa: PLC0415  as above

    file = Path(tempfile.mkdtemp(prefix=f"delia-{verb}-"), f"{verb}.log")
    log = RunLog(file, layout.root.name, as_json=writes_json(placement, on_terminal=sys.stdout.isatty()))
    sys.excepthook = partial(_show_failure, verb, log)
    try:
        with log.redirect() as stream:
            yield Terminal(stream, log), file
    except LostError:
        raise
    except UserError:
        shutil.rmtree(file.parent)  # no log of it says more than the refusal
        raise


def _check_root(root: Path) -> None:
    """Refuse a bucket that cannot be written, and a folder inside a Ray job's copy of the working folder, which Ray deletes after the job.

    Raises:
        UserError: where the runs should be.
    """
    check_store(root, "run.root")
    if _JOB_FOLDERS in str(root.resolve()):
        raise UserError(
            f"run.root: {root} lies in this job's copy of the working folder, which Ray deletes with the job; give an absolute path that "
            "all nodes share (run.root=/mnt/runs), or a bucket (run.root=s3://bucket/runs)"
        )


def provenance() -> Provenance:
    """The commit of the working folder, if it is a checkout, and this process's argv."""
    return Provenance(read_commit(), sys.argv)


def read_commit() -> str | None:
    """The commit of the working folder; in a submitted job, of the folder that was submitted. None where it is no checkout."""
    if commit := os.environ.get(COMMIT):
        return commit
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # git is not installed, as in many images
        return None
    return git.stdout.strip() if git.returncode == 0 else None  # without a commit it prints the word HEAD


@contextmanager
def _locked(layout: RunLayout) -> Generator[None]:
    """Keep a second process out of the run while this one works; the system releases the lock when the process dies."""
    try:
        with FileLock(layout.lock, timeout=0):
            yield
    except Timeout:
        raise BusyError(
            f"run.name: another process is working on {to_uri(layout.root)}; wait for it, or give this run another name"
        ) from None


@contextmanager
def _without_traces(layout: RunLayout) -> Generator[None]:
    """Remove the folder of a run that was refused before it began: no log of it says more than the refusal."""
    run = layout.root
    new = [folder for folder in (run, *run.parents) if not folder.exists()]
    try:
        yield
    except BusyError:
        raise  # what lies there is the other's
    except UserError:
        files = {file.relative_to(run).parts[0] for file in run.rglob("*") if not file.is_dir()}
        if run in new and run.is_dir() and files <= {layout.logs.name, layout.lock.name}:
            shutil.rmtree(run)
            for folder in new[1:]:
                with suppress(OSError):  # another run is in it by now
                    folder.rmdir()
        raise


def _show_failure(verb: str, log: "RunLog", kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The process's last words after a failure that is not the user's: the end of the log, and where the rest is."""
    log.keep_error("".join(traceback.format_exception(kind, error, trace)))
    with suppress(OSError, UserError):
        publish(log.file)
    name, last = to_uri(log.file), log.last_lines(_TAIL_LINES)
    print(f"\ndelia {verb} failed. The end of {name}:\n", *last, f"\nmore in {name}", sep="\n", file=sys.stderr)
