"""A block in which no artifact is built, replaced or tidied up: finished ones are opened and compared, as they are before a run."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_MAY_BUILD: ContextVar[bool] = ContextVar("may_build", default=True)


class UnfinishedError(Exception):
    """Something would have to be built, or a cluster or an endpoint started for it, where nothing is built."""


@contextmanager
def building_nothing() -> Generator[None]:
    """Let every step open its artifact if it is finished and of the same request, and raise an error otherwise."""
    token = _MAY_BUILD.set(False)
    try:
        yield
    finally:
        _MAY_BUILD.reset(token)


def may_build() -> bool:
    """Whether artifacts may be built here."""
    return _MAY_BUILD.get()


def check_may_build(path: Path) -> None:
    """Raise ``UnfinishedError`` with ``path`` where nothing is built."""
    if not may_build():
        raise UnfinishedError(str(path))
