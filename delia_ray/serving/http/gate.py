"""What every request passes before the engine sees it: keys, limits, the size and form of its body, and the name of its model."""

import asyncio
from typing import Any, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from delia_ray.placement.access import Access
from delia_ray.serving.http.errors import ApiError
from delia_ray.serving.http.guard import Living, refuse_while_dead
from delia_ray.serving.http.keys import KeyRing
from delia_ray.serving.http.limits import LimitError, Limits
from delia_ray.serving.http.paths import check_path, needs_key
from delia_ray.serving.http.requests import check_limits, check_schemas, get_model, parse_body

_MIB = 2**20


class Models(Living, Protocol):
    """The models that are served."""

    async def knows(self, name: str) -> bool:
        """Whether requests may name the model."""
        ...


class Gate:
    """ASGI middleware before an application that answers in the form of OpenAI's API. Nothing of a request is written to a log."""

    def __init__(self, app: ASGIApp, access: Access, keys: KeyRing, models: Models):
        self._app, self._access, self._keys, self._models = app, access, keys, models
        self._limits = Limits(access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"].removeprefix(scope.get("root_path", "")) or "/", scope["method"]
        check_path(path, method)
        if not needs_key(path):
            await self._app(scope, receive, send)
            return
        key = self._authenticate(scope)
        if method != "POST":
            await self._app(scope, receive, send)
            return
        try:
            with self._limits.enter(key):
                body = await self._read_body(scope, receive)
                await self._check_body(body, _get_header(scope, b"content-type"))
                refuse_while_dead(self._models)
                await self._app(scope, _replay(body, receive), send)
        except LimitError as error:
            raise ApiError(
                429, str(error), "rate_limit_error", "rate_limit_exceeded", headers={"retry-after": str(error.retry_after_s)}
            ) from None

    def _authenticate(self, scope: Scope) -> int:
        """Find the number of the request's key; 0 if none is asked for."""
        if not self._keys:
            return 0
        found = [value for name, value in scope["headers"] if name == b"authorization"]
        key = self._keys.find(found[0]) if len(found) == 1 else None
        if key is None:
            message = "send an API key in the header `Authorization: Bearer KEY`" if not found else "this API key is not known"
            raise ApiError(401, message, "authentication_error", "invalid_api_key", headers={"www-authenticate": "Bearer"})
        return key

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes:
        most = int(self._access.max_body_mib * _MIB)
        too_large = ApiError(413, f"the body has more than {self._access.max_body_mib:g} MiB", headers={"connection": "close"})
        length = _get_header(scope, b"content-length")
        if length.isdigit() and int(length) > most:
            raise too_large
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._access.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(400, "the request ended before its body")
                    parts.append(message.get("body", b""))
                    if sum(map(len, parts)) > most:
                        raise too_large
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            message = f"the body did not arrive within {self._access.body_timeout_s:g} s"
            raise ApiError(408, message, headers={"connection": "close"}) from None

    async def _check_body(self, body: bytes, content_type: bytes) -> None:
        parsed = parse_body(body, content_type)
        check_limits(parsed, self._access)
        check_schemas(parsed)
        name = get_model(parsed)
        if name is not None and not await self._models.knows(name):
            message = f"model: there is no {name[:100]!r} here; GET /v1/models lists those there are"
            raise ApiError(404, message, code="model_not_found", param="model")


def _get_header(scope: Scope, name: bytes) -> bytes:
    return next((value for each, value in scope["headers"] if each == name), b"")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the application the body that was read, and afterwards what else comes, which tells it of a client that has gone."""
    is_read = False

    async def replayed() -> Any:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
