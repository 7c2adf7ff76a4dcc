"""Counts that stages report while they work, and the interface that shows them."""

from contextlib import AbstractContextManager
from typing import Protocol


class Reading(Protocol):
    """What a stage has done so far."""

    def read(self) -> tuple[int, int]:
        """Rows (or steps) and tokens so far."""
        ...


class Tally(Reading, Protocol):
    """A counter that any process of the cluster may add to."""

    def add(self, *, rows: int = 0, tokens: int = 0) -> None:
        """Count finished rows and tokens."""
        ...


class Line(Protocol):
    """One stage's line on the terminal."""

    def follow(self, done: Reading, total: int, unit: str) -> AbstractContextManager[None]:
        """Show ``done`` against ``total`` while the block runs."""
        ...

    def say(self, text: str) -> None:
        """Show what the stage is doing now."""
        ...


class Progress(Protocol):
    """Shows one line a stage."""

    def stage(self, name: str) -> AbstractContextManager[Line]:
        """The line of stage ``name``, finished when the block ends."""
        ...
