"""Counts that stages report while they work, and the interface that shows them."""

from contextlib import AbstractContextManager
from typing import Protocol


class Tally(Protocol):
    """A counter that any process of the cluster may add to."""

    def add(self, *, rows: int = 0, tokens: int = 0) -> None:
        """Count finished rows (or steps) and tokens."""
        ...

    def read(self) -> tuple[int, int]:
        """Rows and tokens so far."""
        ...


class Line(Protocol):
    """One stage's line on the terminal."""

    def follow(self, tally: Tally, total: int, unit: str) -> AbstractContextManager[None]:
        """Show ``tally`` against ``total`` while the block runs."""
        ...

    def say(self, text: str) -> None:
        """Show what the stage is doing now."""
        ...


class Progress(Protocol):
    """Shows one line a stage."""

    def stage(self, name: str) -> AbstractContextManager[Line]:
        """The line of stage ``name``, finished when the block ends."""
        ...
