"""Regular expressions of the user's own, which may backtrack for ever: each match has a time limit."""

import regex

from delia_ray.errors import UserError

MATCH_SECONDS = 1.0
"""Ordinary matches take microseconds."""
_PROBE_CHARACTERS = 64
"""Few enough for a pattern whose time grows with a power of the length, too many for one whose time doubles with each character."""


def check_pattern(pattern: str) -> str:
    """``pattern``, which compiles.

    Raises:
        UserError: it does not.
    """
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise UserError(f"{pattern!r} is not a regular expression ({error}); mend it") from None
    return pattern


def matches_whole(pattern: str, text: str) -> bool:
    """Whether ``pattern`` matches all of ``text``.

    Raises:
        TimeoutError: that takes more than ``MATCH_SECONDS``.
    """
    return regex.fullmatch(pattern, text, timeout=MATCH_SECONDS) is not None


def backtracks(pattern: str, like: str) -> bool:
    """Whether ``pattern`` takes for ever to find that a text of 64 characters, made of those of ``like``, does not match.

    The text ends as ``like`` does, since a pattern whose last character is nowhere is given up at once.
    """
    text = (like[:-1] or "x") * _PROBE_CHARACTERS
    try:
        matches_whole(pattern, text[:_PROBE_CHARACTERS] + "\0" + like[-1:])
    except TimeoutError:
        return True
    return False
