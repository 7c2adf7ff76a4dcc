"""Counts that are one number, or the least and the most."""

from typing import Annotated

from pydantic import AfterValidator

from delia_ray.core.errors import UserError


def get_bounds(count: int | tuple[int, int]) -> tuple[int, int]:
    """Return the least and the most."""
    return count if isinstance(count, tuple) else (count, count)


def _check_bounds(count: int | tuple[int, int]) -> int | tuple[int, int]:
    minimum, maximum = get_bounds(count)
    if not 1 <= minimum <= maximum:
        raise UserError("must be at least 1, or [minimum, maximum] of at least 1")
    return count


Count = Annotated[int | tuple[int, int], AfterValidator(_check_bounds)]
"""One number of at least 1, or [minimum, maximum]."""
