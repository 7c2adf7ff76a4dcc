"""The replica that receives requests where several engines answer: it passes each on to the engine of the model that it names."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp, Receive, Scope, Send

from delia_ray.placement import Access
from delia_ray.serving.forms import EnginePlan, ServedModel
from delia_ray.serving.http.errors import ApiError
from delia_ray.serving.http.frontend import build_frontend
from delia_ray.serving.http.requests import get_model

_PASSED_ON = (
    *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path"),
    *("headers", "client", "server"),
)
"""Keys of an ASGI scope."""


class ModelRouter:
    """Passes requests on to engines."""

    def __init__(self, engines: Mapping[str, DeploymentHandle[Any]], plans: Sequence[EnginePlan], access: Access, keys: Sequence[str] = ()):
        """Remember the engines.

        Args:
            engines: name of the plan -> the deployment.
        """
        self._access, self._keys = access, keys
        self._models = [model for plan in plans for model in plan.models]
        self._engines = {model.name: engines[plan.name].options(stream=True) for plan in plans for model in plan.models}

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        return build_frontend(self._answer, self._access, self._keys, self)

    async def list_models(self) -> list[ServedModel]:
        """List the models that answer."""
        return self._models

    async def knows(self, name: str) -> bool:
        """Whether a model answers."""
        return name in self._engines

    def is_alive(self) -> bool:
        """Whether this replica works; each engine says it of itself."""
        return True

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        body = (await receive()).get("body", b"")
        engine: Any = self._engines[self._choose(scope, body)]
        parts = engine.forward.remote({name: scope[name] for name in _PASSED_ON if name in scope}, body)
        gone = asyncio.ensure_future(_wait_until_gone(receive))
        gone.add_done_callback(lambda _: parts.cancel())
        try:
            async for message in parts:
                await send(message)
        finally:
            gone.cancel()

    def _choose(self, scope: Scope, body: bytes) -> str:
        """Choose the model that a request is for.

        Raises:
            ApiError: it names none, and there are several.
        """
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("model")
        name = get_model(json.loads(body)) if body else (asked[0] if asked else None)
        if name in self._engines:
            return name
        if scope["method"] != "POST":  # such as the documentation, which all have
            return self._models[0].name
        raise ApiError(400, f"model: name one of {', '.join(self._engines)}", code="model_not_found", param="model")


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _live(receive: Receive, send: Send) -> None:
    """Answer the messages of a server about its start and end."""
    with suppress(asyncio.CancelledError):
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
