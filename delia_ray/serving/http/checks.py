"""What every request passes before the engine sees it: keys, limits, the size and form of its body, and the name of its model."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from delia_ray.placement.access import Access
from delia_ray.serving.http.errors import ApiError, make_unknown_model_error
from delia_ray.serving.http.input_items import check_input_items
from delia_ray.serving.http.keys import ApiKeys
from delia_ray.serving.http.limits import RequestLimiter
from delia_ray.serving.http.paths import RESPONSES, check_path, get_path, needs_key
from delia_ray.serving.http.requests import check_limits, check_schemas, get_model, parse_body

_MIB = 2**20
STATE_MODEL = "delia_model"
"""Key in the state of a request's scope: the name of the model that its body asks for."""


class ModelNames(Protocol):
    """Knows which models are served."""

    async def has_model(self, name: str) -> bool:
        """Whether requests may name the model."""
        ...


class RequestChecks:
    """ASGI middleware before an application that answers in the form of OpenAI's API. Nothing of a request is written to a log."""

    def __init__(self, app: ASGIApp, access: Access, keys: ApiKeys, models: ModelNames):
        self._app, self._access, self._keys, self._models = app, access, keys, models
        self._limiter = RequestLimiter(access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = get_path(scope), scope["method"]
        check_path(path, method)
        key = self._authenticate(scope) if needs_key(path) else 0
        if method != "POST":
            await self._app(scope, receive, send)
            return
        with self._limiter.count(key):
            body = await self._read_body(scope, receive)
            model = await self._check_body(path, body, Headers(scope=scope).get("content-type", ""))
            state = {**scope.get("state", {}), STATE_MODEL: model}
            await self._app({**scope, "state": state}, _replay(body, receive), send)

    def _authenticate(self, scope: Scope) -> int:
        """Find the number of the request's key; 0 if none is asked for."""
        if not self._keys:
            return 0
        found = Headers(scope=scope).getlist("authorization")
        key = self._keys.find(found[0]) if len(found) == 1 else None
        if key is None:
            has_one = len(found) == 1 and found[0].lower().startswith("bearer ")
            message = "this API key is not known" if has_one else "send one API key in the header `Authorization: Bearer KEY`"
            raise ApiError(401, message, "authentication_error", "invalid_api_key", headers={"www-authenticate": "Bearer"})
        return key

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes:
        most, closes = int(self._access.max_body_mib * _MIB), {"connection": "close"}
        too_large = ApiError(413, f"the body has more than {self._access.max_body_mib:g} MiB", headers=closes)
        length = Headers(scope=scope).get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._access.body_timeout_s):
                async for part in Request(scope, receive).stream():
                    body += part
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            raise ApiError(408, f"the body did not arrive within {self._access.body_timeout_s:g} s", headers=closes) from None
        except ClientDisconnect:
            raise ApiError(400, "the request ended before its body") from None
        return bytes(body)

    async def _check_body(self, path: str, body: bytes, content_type: str) -> str | None:
        """Check a body, and return the name of the model that it asks for, if it names one."""
        parsed: Mapping[str, Any] = parse_body(body, content_type)
        check_limits(parsed, self._access)
        check_schemas(parsed)
        if path == RESPONSES:
            check_input_items(parsed)
        name = get_model(parsed)
        if name is not None and not await self._models.has_model(name):
            raise make_unknown_model_error(name)
        return name


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
