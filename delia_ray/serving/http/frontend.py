"""What the endpoint answers by itself: the list of its models, its page, and whether it is healthy."""

import json
from collections.abc import Sequence
from importlib import resources
from typing import Protocol

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from delia_ray.placement import Access
from delia_ray.serving.forms import ServedModel
from delia_ray.serving.http.errors import ApiError
from delia_ray.serving.http.gate import Gate
from delia_ray.serving.http.guard import Guard, Living, refuse_while_dead
from delia_ray.serving.http.keys import KeyRing
from delia_ray.serving.http.paths import MODELS, OPENAPI, keep_open_paths


class Models(Living, Protocol):
    """The models that are served."""

    async def list_models(self) -> list[ServedModel]:
        """List them."""
        ...

    async def knows(self, name: str) -> bool:
        """Whether requests may name the model."""
        ...


def build_frontend(app: ASGIApp, access: Access, keys: Sequence[str], models: Models) -> ASGIApp:
    """Put before ``app``, which answers requests to models, what holds for all requests."""
    gate = Guard(Gate(Frontend(app, models), access, KeyRing(keys), models), models)
    if not access.origins:
        return gate
    return CORSMiddleware(
        gate, allow_origins=access.origins, allow_methods=["GET", "POST"], allow_headers=["authorization", "content-type"]
    )


class Frontend:
    """ASGI application that answers a few paths and leaves the others to another application."""

    def __init__(self, app: ASGIApp, models: Models):
        self._app, self._models = app, models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        if path == "/":
            await _send(send, resources.files("delia_ray.serving.http").joinpath("page.html").read_bytes(), "text/html; charset=utf-8")
        elif path == "/health":
            await self._send_health(send)
        elif path == MODELS:
            cards = [_to_card(model) for model in await self._models.list_models()]
            await _send(send, json.dumps({"object": "list", "data": cards}).encode())
        elif path.startswith(f"{MODELS}/"):
            await self._send_card(path.removeprefix(f"{MODELS}/"), send)
        elif path == OPENAPI:
            document = json.loads(await self._collect(scope, receive))
            await _send(send, json.dumps(keep_open_paths(document)).encode())
        else:
            await self._app(scope, receive, send)

    async def _collect(self, scope: Scope, receive: Receive) -> bytes:
        """Let the application answer, and return the body."""
        parts: list[bytes] = []

        async def keep(message: Message) -> None:
            parts.append(message.get("body", b""))

        await self._app(scope, receive, keep)
        return b"".join(parts)

    async def _send_health(self, send: Send) -> None:
        refuse_while_dead(self._models)
        await _send(send, b"{}")

    async def _send_card(self, name: str, send: Send) -> None:
        await self._models.knows(name)
        found = next((model for model in await self._models.list_models() if model.name == name), None)
        if found is None:
            raise ApiError(404, f"model: there is no {name[:100]!r} here", code="model_not_found", param="model")
        await _send(send, json.dumps(_to_card(found)).encode())


def _to_card(model: ServedModel) -> dict[str, object]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "delia_ray", "metadata": dict(model.metadata)}


async def _send(send: Send, body: bytes, kind: str = "application/json") -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
