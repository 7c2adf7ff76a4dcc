"""Counts that are one number, or the least and the most."""

from delia_ray.core.errors import UserError

Count = int | tuple[int, int]
"""One number, or [minimum, maximum]."""


def get_bounds(count: Count) -> tuple[int, int]:
    """Return the least and the most."""
    return count if isinstance(count, tuple) else (count, count)


def check_bounds(count: Count) -> Count:
    """Return ``count``.

    Raises:
        UserError: it is below 1, or the minimum above the maximum.
    """
    minimum, maximum = get_bounds(count)
    if not 1 <= minimum <= maximum:
        raise UserError("must be at least 1, or [minimum, maximum] of at least 1")
    return count
