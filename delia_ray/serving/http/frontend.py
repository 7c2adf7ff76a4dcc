"""What the endpoint answers by itself: the list of its models, its page, and whether it is healthy."""

import json
from importlib import resources
from typing import Protocol

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from delia_ray.serving.engine_specs import ServedModel
from delia_ray.serving.http.checks import ModelNames, RequestChecks
from delia_ray.serving.http.errors import EngineState, ErrorMiddleware, make_unavailable_error, make_unknown_model_error
from delia_ray.serving.http.paths import DOCS, MODELS, OPENAPI, STATIC, get_path, keep_open_paths
from delia_ray.serving.options import EndpointOptions


class Models(ModelNames, EngineState, Protocol):
    """The models that are served."""

    async def list_models(self) -> list[ServedModel]:
        """List them."""
        ...

    async def is_healthy(self) -> bool:
        """Whether every engine works."""
        ...


def build_frontend(app: ASGIApp, options: EndpointOptions, models: Models) -> ASGIApp:
    """Put before ``app``, which answers requests to models, what holds for all requests."""
    checked = ErrorMiddleware(RequestChecks(Frontend(app, models), options.access, options.keys, models), models)
    if not options.access.origins:
        return checked
    return CORSMiddleware(
        checked, allow_origins=options.access.origins, allow_methods=["GET", "POST"], allow_headers=["authorization", "content-type"]
    )


class Frontend:
    """ASGI application that answers a few paths and leaves the others to another application."""

    def __init__(self, app: ASGIApp, models: Models):
        self._app, self._models = app, models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(get_path(scope), scope, receive) if scope["type"] == "http" else None
        if answer is None and scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}  # the server leaves the body out
        await (answer or self._app)(scope, receive, send)

    async def _answer(self, path: str, scope: Scope, receive: Receive) -> Response | None:
        if path == "/":
            return HTMLResponse(resources.files("delia_ray.serving.http").joinpath("page.html").read_bytes())
        if path == "/health":
            return await self._answer_health()
        if path == MODELS:
            return JSONResponse({"object": "list", "data": [_to_card(model) for model in await self._models.list_models()]})
        if path.startswith(f"{MODELS}/"):
            return await self._answer_card(path.removeprefix(f"{MODELS}/"))
        if path == OPENAPI:
            return JSONResponse(keep_open_paths(json.loads(await self._collect(scope, receive))))
        if path == DOCS and scope.get("root_path"):  # its links begin at the root
            page = (await self._collect(scope, receive)).decode()
            for link in (STATIC, OPENAPI):
                page = page.replace(link, f"{scope['root_path']}{link}")
            return HTMLResponse(page)
        return None

    async def _collect(self, scope: Scope, receive: Receive) -> bytes:
        """Let the application answer, and return the body."""
        parts: list[bytes] = []

        async def keep(message: Message) -> None:
            parts.append(message.get("body", b""))

        await self._app({**scope, "method": "GET"}, receive, keep)
        return b"".join(parts)

    async def _answer_health(self) -> Response:
        if not await self._models.is_healthy():
            raise make_unavailable_error()
        return JSONResponse({})

    async def _answer_card(self, name: str) -> Response:
        found = next((model for model in await self._models.list_models() if model.name == name), None)
        if found is None:
            raise make_unknown_model_error(name)
        return JSONResponse(_to_card(found))


def _to_card(model: ServedModel) -> dict[str, object]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "delia_ray", "metadata": dict(model.metadata)}
