"""What becomes of a request that the application fails to answer."""

import logging
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from delia_ray.serving.http.errors import ApiError

logger = logging.getLogger(__name__)

_RETRY = {"retry-after": "5"}


class Living(Protocol):
    """Something with an engine."""

    def is_alive(self) -> bool:
        """Whether the engine that answers works."""
        ...


def refuse_while_dead(engine: Living) -> None:
    """Refuse a request that nothing could answer now.

    Raises:
        ApiError: the engine does not work, and is being started again.
    """
    if not engine.is_alive():
        raise ApiError(503, "the engine is being started again", "server_error", "engine_down", headers=_RETRY)


class Guard:
    """ASGI middleware that answers in OpenAI's form what was refused, and failures of the application without their text."""

    def __init__(self, app: ASGIApp, engine: Living):
        self._app, self._engine = app, engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guarded = _GuardedSend(send, self._engine)
        try:
            await self._app(scope, receive, guarded)
        except ApiError as error:
            await guarded.refuse(error)
        except Exception:  # whatever it is, who asked gets an answer, and the log what it was
            logger.exception("a request failed")
            await guarded.fail()


class _GuardedSend:
    """Passes on what the application sends, but for the text of a failure of its own, which may hold paths and addresses."""

    def __init__(self, send: Send, engine: Living):
        self._send, self._engine = send, engine
        self._has_started = self._is_failure = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_started, self._is_failure = True, message["status"] >= 500 and not _may_retry(message)
        if not self._is_failure:
            await self._send(message)
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._send_failure()

    async def refuse(self, error: ApiError) -> None:
        """Answer with an error, unless an answer has begun, which can only be cut off."""
        if self._has_started:
            await self.fail()
        else:
            await error.send(self._send)

    async def fail(self) -> None:
        """End the answer after an exception."""
        if not self._has_started:
            await self._send_failure()
        elif not self._is_failure:
            await self._send({"type": "http.response.body", "body": b""})

    async def _send_failure(self) -> None:
        try:
            refuse_while_dead(self._engine)
        except ApiError as error:
            await error.send(self._send)
        else:
            await ApiError(500, "the server failed to answer this request; its log says why", "server_error").send(self._send)


def _may_retry(start: Message) -> bool:
    """Whether another guard has said already that the request may be sent again."""
    return start["status"] == 503 and any(name == b"retry-after" for name, _ in start.get("headers", ()))
