"""The log of a verb: what all libraries write, and our own lines, as they are or as one JSON object a line.

Ray, vLLM and DeepSpeed write to file descriptors 1 and 2 of many processes. Those two are pointed at the log before anything heavy is
imported, and our own lines go to a copy of the terminal that was there before, and to the log, too. For a log in JSON, the two lead to a
process that turns lines into objects (``cli/json_lines.py``).
"""

import atexit
import json
import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType

from delia_ray.cli import json_lines
from delia_ray.core.errors import UserError
from delia_ray.placement import Placement, names_cluster

_NOISE = re.compile(r"\bINFO\b|\bDEBUG\b|^\s*$")
_COLUMNS = 200
"""Where nothing wraps, a table has room."""
_END_SECONDS = 5.0
"""How long the last lines may take to reach a log in JSON; a child of this process may keep it open for longer."""


def writes_json(placement: Placement, *, on_terminal: bool) -> bool:
    """Whether a verb's log has one JSON object a line."""
    if placement.log == "auto":
        return names_cluster(placement.cluster) and not on_terminal
    return placement.log == "json"


class RunLog:
    """The log of a verb."""

    def __init__(self, file: Path, run: str, *, as_json: bool = False):
        self.file = file
        self._run, self._as_json, self._stage = run, as_json, ""
        self._pipe: int | None = None
        """Leads to the process that writes JSON, while stdout and stderr do."""

    @contextmanager
    def redirect(self) -> Generator[TextIO]:
        """Point this process's stdout and stderr, and so those of its children, at the log; yield the terminal.

        Raises:
            UserError: the log cannot be written.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            target = self.file.open("ab", buffering=0)
        except OSError as error:
            raise UserError(
                f"run.root: cannot write {self.file}: {error.strerror}; choose a folder you may write to (run.root=...)"
            ) from None
        _flush()
        terminal = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
        kept, writer = [os.dup(1), os.dup(2)], self._point_at(target.fileno())
        try:
            yield terminal
        finally:
            _flush()
            for number, descriptor in zip((1, 2), kept, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)
            self._end(writer)
            terminal.close()
            target.close()
            atexit.register(self._take_last_lines)

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Lines are of stage ``name`` while the block runs."""
        outer, self._stage = self._stage, name
        self._tell({"stage": name, "message": f"{name} begins"})
        try:
            yield
        finally:
            self._stage = outer
            self._tell({"stage": outer})

    def keep(self, what: RenderableType) -> None:
        """Write lines of ours."""
        text = StringIO()
        Console(file=text, highlight=False, soft_wrap=True, width=_COLUMNS, color_system=None).print(what)
        if self._pipe is not None:
            self._tell({"stage": self._stage, "message": text.getvalue().rstrip("\n")})
        elif not self._as_json:
            self._append(text.getvalue())

    def keep_error(self, text: str) -> None:
        """Write a message about the process's end, after ``redirect``."""
        self._append(json_lines.encode(self._run, {"level": "ERROR", "message": text.rstrip("\n")}) if self._as_json else text)

    def last_lines(self, count: int) -> list[str]:
        """Return the newest ``count`` lines without those that only inform."""
        lines = self.file.read_text(encoding="utf-8", errors="replace").splitlines()
        if self._as_json:
            messages = [json.loads(line)["message"] for line in lines if line.endswith("}")]
            lines = [line for message in messages for line in message.splitlines()]
        return [line for line in lines if not _NOISE.search(line)][-count:]

    def _append(self, text: str) -> None:
        with suppress(OSError), self.file.open("a", encoding="utf-8") as log:  # a full disk is told by what needs it
            log.write(text)

    def _tell(self, event: dict[str, str]) -> None:
        """Hand an event of ours to the process that writes JSON, in the order of all other lines."""
        if self._pipe is not None:
            with suppress(OSError):  # it was killed
                os.write(self._pipe, f"{json_lines.EVENT}{json.dumps(event)}\n".encode())

    def _point_at(self, target: int) -> "subprocess.Popen[bytes] | None":
        """Point stdout and stderr at the log, which ``target`` appends to. Return the process that writes JSON, if one does."""
        if not self._as_json:
            os.dup2(target, 1)
            os.dup2(target, 2)
            return None
        read, self._pipe = os.pipe()
        command = [sys.executable, "-I", "-S", str(Path(json_lines.__file__)), self._run]
        # In a session of its own: a signal for this process and its children would end it before they have said their last.
        writer = subprocess.Popen(command, stdin=read, stdout=target, stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(read)
        os.dup2(self._pipe, 1)
        os.dup2(self._pipe, 2)
        return writer

    def _end(self, writer: "subprocess.Popen[bytes] | None") -> None:
        """Wait until what was written is in the log."""
        if writer is not None and self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
            with suppress(subprocess.TimeoutExpired):
                writer.wait(_END_SECONDS)

    def _take_last_lines(self) -> None:
        """As the process ends, take what others still say: Ray disconnects then, and passes on its workers' last lines."""
        _flush()
        if self.file.exists():
            self._point_at(os.open(self.file, os.O_WRONLY | os.O_APPEND))
        else:
            target = os.open(os.devnull, os.O_WRONLY)
            os.dup2(target, 1)
            os.dup2(target, 2)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the log's disk is full; whatever is told next is told on the terminal
            stream.flush()
