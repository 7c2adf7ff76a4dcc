"""Regular expressions from the user's config, matched with a time limit because they can backtrack catastrophically."""

import regex

from delia_ray.core.errors import UserError

MATCH_SECONDS = 1.0
"""Time limit of a match, in seconds; ordinary matches take microseconds."""
_PROBE_CHARACTERS = 64
"""Length of a probe text: short for a pattern of polynomial time, too long for one of exponential time."""


def check_pattern(pattern: str) -> str:
    """Return ``pattern`` if it compiles.

    Raises:
        UserError: it is not a valid regular expression.
    """
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise UserError(f"{pattern!r} is not a regular expression ({error}); correct it") from None
    return pattern


def is_full_match(pattern: str, text: str) -> bool:
    """Whether ``pattern`` matches all of ``text``.

    Raises:
        TimeoutError: the match takes more than ``MATCH_SECONDS``.
    """
    return regex.fullmatch(pattern, text, timeout=MATCH_SECONDS) is not None


def has_catastrophic_backtracking(pattern: str, example: str) -> bool:
    """Whether ``pattern`` exceeds the time limit on a text of 64 characters that does not match.

    The text repeats the characters of ``example`` and ends with its last one: a pattern whose last character is missing fails at once.
    """
    text = (example[:-1] or "x") * _PROBE_CHARACTERS
    try:
        is_full_match(pattern, text[:_PROBE_CHARACTERS] + "\0" + example[-1:])
    except TimeoutError:
        return True
    return False
