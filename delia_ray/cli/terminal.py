"""What a person sees while a run works: one line a stage. Everything else is in the log (``cli/log.py``)."""

import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import TextIO

from rich.console import Console, ConsoleDimensions, RenderableType
from rich.live import Live
from rich.text import Text

from delia_ray.cli.log import RunLog
from delia_ray.core.progress import CountReader

_DONE = "✓ "
"""Marks a stage that is finished."""
_REFRESH_SECONDS = 0.5
_PLAIN_LINE_SECONDS = 60.0
"""Where no line can be redrawn, as in the log of a Ray job, a stage prints one so often."""
_COLUMNS, _LINES = 80, 25
"""Of a terminal that does not say its size."""
_PIPED_COLUMNS = 200
"""Where nothing wraps, a table has room."""


class Terminal:
    """A ``Progress`` that prints to the terminal: live lines where there is one, plain lines elsewhere."""

    def __init__(self, stream: TextIO, log: RunLog | None = None):
        """``log`` gets every line that stays, too."""
        self._stream = stream
        width = None if stream.isatty() else _PIPED_COLUMNS
        self.console = Console(file=stream, highlight=False, soft_wrap=not stream.isatty(), width=width)
        self._log = log
        self._fit()

    @contextmanager
    def stage(self, name: str, arm: str = "") -> Generator["StageLine"]:
        """Show the line of ``name`` until the block ends, then leave it with a mark and its time."""
        with nullcontext() if self._log is None else self._log.stage(name), self._show(name) as line:
            yield line

    @contextmanager
    def _show(self, name: str) -> Generator["StageLine"]:
        line = StageLine(name)
        if not self.console.is_terminal or self.console.is_dumb_terminal:
            with _every(_PLAIN_LINE_SECONDS, lambda: self.console.print(line)):
                yield line
            if self._stream.isatty():
                self.console.print(line.finished(), no_wrap=True, overflow="ellipsis")
            else:
                self.console.print(line.finished())
            self._keep(line.finished())
            return

        def shown() -> StageLine:
            self._fit()
            return line

        # stdout and stderr are the log; Live would turn what is printed there, such as workers' lines that Ray passes on, to the screen.
        with Live(
            get_renderable=shown,
            console=self.console,
            refresh_per_second=1 / _REFRESH_SECONDS,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        ):
            yield line
        self.console.print(line.finished(), no_wrap=True, overflow="ellipsis")
        self._keep(line.finished())

    def say(self, text: str) -> None:
        """Print lines as they are, so that what is copied from them has no break of ours."""
        self.console.print(text, soft_wrap=True, markup=False)
        self._keep(Text(text))

    def show(self, table: RenderableType) -> None:
        """Print a table that fits the terminal by itself; in the log it has all the room there is."""
        self.console.print(table)
        self._keep(table)

    def _keep(self, what: RenderableType) -> None:
        if self._log is not None:
            self._log.keep(what)

    def _fit(self) -> None:
        """Take the size of the stream's own terminal: rich would ask descriptors 0 to 2, which may be files."""
        if self._stream.isatty():
            columns, lines = os.get_terminal_size(self._stream.fileno())
            self.console.size = ConsoleDimensions(columns or _COLUMNS, lines or _LINES)


class StageLine:
    """One stage: its name, what it is doing, how far it is and how fast."""

    def __init__(self, name: str):
        self._name = name
        self._said = ""
        self._counts = (0, 0)
        self._total = 0
        self._unit = ""
        self._began = time.monotonic()
        self._first: tuple[float, int, int] | None = None
        """When the first rows were done, and how many rows and tokens they were: an engine's start is no part of its speed."""

    def set_status(self, text: str) -> None:
        """Show what the stage is doing now, or has done, instead of a count."""
        self._said, self._total = text, 0

    @contextmanager
    def track(self, counter: CountReader, total: int, unit: str) -> Generator[None]:
        """Show the count of ``counter`` against ``total`` while the block runs."""
        self._total, self._unit = total, unit
        with _every(_REFRESH_SECONDS, lambda: self._take(counter)):
            yield
        self._take(counter)

    def finished(self) -> Text:
        """The line that stays."""
        return stage_text(self._name, self._elapsed(), self._numbers())

    def __rich__(self) -> Text:
        return stage_text(self._name, self._elapsed(), self._numbers(live=True), mark="· ")

    def _take(self, done: CountReader) -> None:
        self._counts = done.read()
        if self._counts[0] and self._first is None:
            self._first = (time.monotonic(), *self._counts)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _numbers(self, *, live: bool = False) -> str:
        if not self._total:
            return self._said
        rows, tokens = self._counts
        parts = [f"{rows}/{self._total} {self._unit}"]
        began, first_rows, first_tokens = self._first or (time.monotonic(), rows, tokens)
        working = time.monotonic() - began
        if tokens > first_tokens and working > 1:
            parts.append(f"{(tokens - first_tokens) / working:.0f} tokens/s")
        if live and not rows:
            parts.append("starting")
        elif live and first_rows < rows < self._total and working > 1:
            parts.append(f"{_clock(working * (self._total - rows) / (rows - first_rows))} left")
        return ", ".join(parts)


@contextmanager
def _every(seconds: float, action: Callable[[], None]) -> Generator[None]:
    """Call ``action`` at this interval while the block runs."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(seconds):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def stage_text(name: str, seconds: float, numbers: str, *, mark: str = _DONE) -> Text:
    """The line of a stage; without ``mark`` that of a finished one."""
    parts = ((mark, "green" if mark == _DONE else ""), (f"{name:<18}", "bold"), f"{_clock(seconds):>7}  ", numbers)
    return Text.assemble(*parts, overflow="ellipsis", no_wrap=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
