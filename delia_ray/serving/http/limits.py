"""How many requests are in progress, and how many came in the last minute."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Generator
from contextlib import contextmanager

from delia_ray.placement.access import Access
from delia_ray.serving.http.errors import ApiError

_MINUTE = 60.0


class RequestLimiter:
    """Counts the requests of each key. All calls are from one event loop."""

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic):
        self._access, self._clock = access, clock
        self._active: Counter[int] = Counter()
        self._arrivals: dict[int, deque[float]] = {}

    @contextmanager
    def count(self, key: int) -> Generator[None]:
        """Count a request while the block works.

        Raises:
            ApiError: it is one too many.
        """
        self._check_active(key)
        self._check_rate(key)
        self._active[key] += 1
        try:
            yield
        finally:
            self._active[key] -= 1

    def _check_active(self, key: int) -> None:
        access = self._access
        if access.max_requests is not None and self._active.total() >= access.max_requests:
            raise _make_error(f"no more than {access.max_requests} requests may be in progress; try again later", 5)
        if access.concurrent_requests is not None and self._active[key] >= access.concurrent_requests:
            raise _make_error(
                f"no more than {access.concurrent_requests} requests with this key may be in progress; wait for one of them", 1
            )

    def _check_rate(self, key: int) -> None:
        if (most := self._access.requests_per_minute) is None:
            return
        now, arrivals = self._clock(), self._arrivals.setdefault(key, deque(maxlen=most))
        if len(arrivals) == most and (wait := arrivals[0] + _MINUTE - now) > 0:
            raise _make_error(f"this key may send {most} requests a minute", math.ceil(wait))
        arrivals.append(now)


def _make_error(message: str, retry_after_s: int) -> ApiError:
    return ApiError(429, message, "rate_limit_error", "rate_limit_exceeded", headers={"retry-after": str(retry_after_s)})
