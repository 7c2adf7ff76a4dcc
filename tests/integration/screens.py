"""A command on a terminal of its own, and what a person sees there when it has ended."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PIECES = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\][^\x07]*\x07|(.)", re.DOTALL)


@dataclass
class Screen:
    """Rows of a terminal and all that scrolled off it. Knows what rich and Ray send: text, line ends, colors, cursor up, erase."""

    columns: int
    rows: list[list[str]] = field(default_factory=lambda: [[]])
    wrapped: int = 0
    """Rows that a line went on in because it did not fit."""
    _row: int = 0
    _column: int = 0

    def feed(self, text: str) -> None:
        for number, command, character in _PIECES.findall(text):
            if command:
                self._control(number, command)
            elif character == "\r":
                self._column = 0
            elif character == "\n":
                self._down()
            elif character >= " ":
                self._put(character)

    @property
    def lines(self) -> list[str]:
        """The rows with something on them."""
        return [line for row in self.rows if (line := "".join(row).rstrip())]

    def _control(self, number: str, command: str) -> None:
        if command == "A":
            self._row = max(0, self._row - int(number or 1))
        elif command == "K":
            self.rows[self._row] = [] if number == "2" else self.rows[self._row][: self._column]
        else:
            assert command in "mhl", f"the screen does not know ESC [ {number} {command}"

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self.rows):
            self.rows.append([])

    def _put(self, character: str) -> None:
        if self._column == self.columns:
            self.wrapped += 1
            self._column = 0
            self._down()
        row = self.rows[self._row]
        row.extend(" " * (self._column + 1 - len(row)))
        row[self._column] = character
        self._column += 1


@dataclass(frozen=True)
class Shown:
    code: int
    raw: str
    screen: Screen


def on_terminal(command: Sequence[str], columns: int, cwd: Path, **environment: str) -> Shown:
    """Run ``command`` on a terminal of that width until it ends."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, cwd=cwd, env=_plain(environment))
    os.close(slave)
    raw = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # EIO: nobody holds the other end any more
            break
        raw += piece
        if not piece:
            break
    os.close(master)
    text = raw.decode()
    screen = Screen(columns)
    screen.feed(text)
    return Shown(process.wait(timeout=60), text, screen)


def _plain(more: Mapping[str, str]) -> dict[str, str]:
    """This environment as a terminal has it, without what would decide about colors."""
    skip = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    return {**{name: value for name, value in os.environ.items() if name not in skip}, "TERM": "xterm-256color", **more}
