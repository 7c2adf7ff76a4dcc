"""Errors in the form of OpenAI's API, and what becomes of a request that the application fails to answer."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

_LOGGED_BYTES = 2000
"""Of a failure's own text."""


@dataclass(eq=False)
class ApiError(Exception):
    """An answer with ``{"error": {...}}``."""

    status: int
    message: str
    kind: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def content(self) -> dict[str, Any]:
        """The answer's body."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def to_response(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse(self.content, self.status, headers=dict(self.headers))


class EngineState(Protocol):
    """Tells whether an engine works."""

    def is_alive(self) -> bool:
        """Whether the engine that answers works."""
        ...


def make_unavailable_error() -> ApiError:
    """Make the answer to a request that nothing could answer now."""
    return ApiError(503, "the engine is being started again", "server_error", "engine_down", headers={"retry-after": "5"})


def make_unknown_model_error(name: str) -> ApiError:
    """Make the answer to a request that names a model which is not served."""
    message = f"model: there is no {name[:100]!r} here; GET /v1/models lists those there are"
    return ApiError(404, message, code="model_not_found", param="model")


class ErrorMiddleware:
    """ASGI middleware that answers in OpenAI's form what was refused, and failures of the application without their text."""

    def __init__(self, app: ASGIApp, engine: EngineState):
        self._app, self._engine = app, engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            await self._app(scope, receive, answer)
            error = None
            if answer.is_withheld:
                logger.error("the application answered %s: %s", answer.status, bytes(answer.withheld))
                error = self._make_failure()
        except ApiError as refusal:
            error = refusal
        except Exception:  # whatever it is, who asked gets an answer, and the log what it was
            logger.exception("a request failed")
            error = self._make_failure()
        if error is not None and not answer.has_begun:
            await error.to_response()(scope, receive, send)
        elif error is not None:
            await answer.break_off(error)

    def _make_failure(self) -> ApiError:
        if not self._engine.is_alive():
            return make_unavailable_error()
        return ApiError(500, "the server failed to answer this request; its log says why", "server_error")


class _Answer:
    """Passes on what the application sends, but for a failure of its own, whose text may hold paths and addresses."""

    def __init__(self, send: Send):
        self._send = send
        self._is_event_stream = False
        self.has_begun = self.is_withheld = False
        self.status, self.withheld = 0, bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = Headers(raw=message.get("headers", []))
            # A replica that passed the request on to another gets such an answer from there.
            self.status = message["status"]
            self.is_withheld = self.status >= 500 and "retry-after" not in headers
            self.has_begun = not self.is_withheld
            self._is_event_stream = headers.get("content-type", "").startswith("text/event-stream")
        if not self.is_withheld:
            await self._send(message)
        elif len(self.withheld) < _LOGGED_BYTES:
            self.withheld += message.get("body", b"")[:_LOGGED_BYTES]

    async def break_off(self, error: ApiError) -> None:
        """End an answer that has begun so that it is not taken for whole.

        Raises:
            ConnectionError: it can only be cut off.
        """
        if not self._is_event_stream:
            raise ConnectionError(error.message)
        await self._send({"type": "http.response.body", "body": f"data: {json.dumps(error.content)}\n\n".encode()})
