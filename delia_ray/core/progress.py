"""Protocols for progress: counters of finished rows and tokens, and the terminal lines that show them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class CountReader(Protocol):
    """Read access to the counts of a stage."""

    def read(self) -> tuple[int, int]:
        """Return the numbers of rows (or steps) and of tokens so far."""
        ...


class Tally(CountReader, Protocol):
    """A counter of rows and tokens that any process of the cluster can add to."""

    def add(self, *, rows: int = 0, tokens: int = 0) -> None:
        """Count finished rows and tokens."""
        ...


class ProgressLine(Protocol):
    """The progress line of a stage on the terminal."""

    def track(self, counter: CountReader, total: int, unit: str) -> AbstractContextManager[None]:
        """Show the count of ``counter`` against ``total`` while the block runs."""
        ...

    def set_status(self, text: str) -> None:
        """Show a status text instead of a count."""
        ...


class Progress(Protocol):
    """Progress display with one line for each stage."""

    def stage(self, name: str, arm: str = "") -> AbstractContextManager[ProgressLine]:
        """Open the line of stage ``name``, which ends with the block. ``arm`` is the word of the name that is an arm, if one is."""
        ...


class SilentProgress:
    """A ``Progress`` and its ``ProgressLine`` that show nothing."""

    def stage(self, name: str, arm: str = "") -> AbstractContextManager[ProgressLine]:
        """Open a line that nobody sees."""
        return nullcontext(self)

    def track(self, counter: CountReader, total: int, unit: str) -> AbstractContextManager[None]:
        """Count nothing."""
        return nullcontext()

    def set_status(self, text: str) -> None:
        """Show nothing."""
