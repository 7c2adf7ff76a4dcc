"""A filter from lines to JSON objects, one a line; a process of its own between a run's processes and the run's log.

Its input are the lines of all libraries, in any form, and events of the run (after ``EVENT``), which say what stage it is in. Uses
nothing but the standard library, so that it starts in some milliseconds.
"""

import json
import re
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, BinaryIO

EVENT = "\x1e"
"""Begins a line that is an event of the run: a JSON object with a stage and perhaps a message."""
_LEVELS = {"DEBUG": "DEBUG", "INFO": "INFO", "WARNING": "WARNING", "WARN": "WARNING", "ERROR": "ERROR", "CRITICAL": "CRITICAL"}
_LEVEL = re.compile(rf"\b({'|'.join(_LEVELS)})\b")
_LEVEL_WITHIN = 80
"""Where the level of a line is looked for: its first characters, before the message itself."""
_OURS = ("time", "level", "run", "stage")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_FORWARDED = re.compile(r"^\((?P<source>[^()]*\bpid=\d+[^()]*)\) ?(?P<text>.*)$")
"""A line of a worker that Ray passes on: ``(name pid=1, ip=2) text``."""


def encode(run: str, event: dict[str, Any]) -> str:
    """Return one line of the log: time, level, run and stage before everything else in ``event``."""
    first = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": "INFO", "run": run, "stage": ""}
    return json.dumps({**first, **event}, ensure_ascii=False) + "\n"


def convert(line: str) -> dict[str, Any] | None:
    """Return what a line says, as an event; None where it says nothing.

    A worker's line has its ``source``. A line that is a JSON object with a message already (Ray and Serve can write such logs) keeps its
    other fields.
    """
    text = _ESCAPE.sub("", line.rstrip("\r\n")).rpartition("\r")[2].rstrip()  # of a progress bar, the newest state
    forwarded = _FORWARDED.match(text)
    event: dict[str, Any] = {"source": forwarded["source"]} if forwarded else {}
    text = forwarded["text"] if forwarded else text
    if not text:
        return None
    if text.startswith("{"):
        with suppress(json.JSONDecodeError):
            fields = json.loads(text)
            if "message" in fields:
                level = _LEVELS.get(str(fields.pop("levelname", fields.get("level"))), "INFO")
                return {"level": level, **event, **{name: value for name, value in fields.items() if name not in _OURS}}
    level = _LEVEL.search(text[:_LEVEL_WITHIN])
    return {"level": _LEVELS[level[1]] if level else "INFO", **event, "message": text}


def convert_stream(source: BinaryIO, target: BinaryIO, run: str) -> None:
    """Convert all lines of ``source`` until it ends."""
    stage = ""
    for raw in source:
        line = raw.decode("utf-8", errors="replace")
        if line.startswith(EVENT):
            event = json.loads(line.removeprefix(EVENT))
            stage = event["stage"]
            if "message" not in event:
                continue
        else:
            event = convert(line)
        if event is not None:
            with suppress(OSError):  # a full disk; whoever writes must not be stopped by that
                target.write(encode(run, {"stage": stage, **event}).encode())
                target.flush()


def main() -> None:
    """Convert standard input to standard output. Ends with its input, and not before: whoever writes to it would fail."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    convert_stream(sys.stdin.buffer, sys.stdout.buffer, sys.argv[1])


if __name__ == "__main__":
    main()
