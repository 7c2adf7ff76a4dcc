"""The replica that receives requests where several engines answer: it passes each on to the engine of the model that it names."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp, Receive, Scope, Send

from delia_ray.serving.engine_specs import EngineSpec, ServedModel
from delia_ray.serving.http.checks import STATE_MODEL
from delia_ray.serving.http.errors import ApiError, make_unavailable_error
from delia_ray.serving.http.frontend import build_frontend
from delia_ray.serving.options import EndpointOptions
from delia_ray.upstream.ray_serve import listen_on_node_address

_PASSED_ON = (
    *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path"),
    *("headers", "client", "server"),
)
"""Keys of an ASGI scope."""
_PATIENCE_SECONDS = 5.0
_AWAY = (TimeoutError, RayActorError, DeploymentUnavailableError, BackPressureError)
"""What comes of asking an engine whose replica has ended, or is busy starting."""


class ModelRouter:
    """Passes requests on to engines."""

    def __init__(self, engines: Mapping[str, DeploymentHandle[Any]], specs: Sequence[EngineSpec], options: EndpointOptions):
        """Remember the engines.

        Args:
            engines: name of the engine's spec -> the deployment.
        """
        listen_on_node_address()
        self._options, self._all = options, list[Any](engines.values())
        self._models = {model.name: model for spec in specs for model in spec.models}
        self._engines: dict[str, Any] = {model.name: engines[spec.name] for spec in specs for model in spec.models}
        self._with_adapters: Any = next((engines[spec.name] for spec in specs if spec.adapters), None)

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        return build_frontend(self._answer, self._options, self)

    async def list_models(self) -> list[ServedModel]:
        """List the models that answer; those of an engine that is away, as it was asked last."""
        with suppress(*_AWAY):
            await self._look_for_adapters()
        return [*self._models.values()]

    async def has_model(self, name: str) -> bool:
        """Whether a model answers; it may have been finished meanwhile.

        Raises:
            ApiError: that cannot be told while the engine that would answer is away.
        """
        if name not in self._models:
            try:
                await self._look_for_adapters()
            except _AWAY:
                raise make_unavailable_error() from None
        return name in self._models

    async def _look_for_adapters(self) -> None:
        """Ask the engine with adapters what it answers for by now."""
        if self._with_adapters is not None and self._options.run is not None:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                models = await self._with_adapters.list_models.remote()
            self._models |= {model.name: model for model in models}
            self._engines |= {model.name: self._with_adapters for model in models}

    def is_alive(self) -> bool:
        """Whether this replica works; each engine says it of itself."""
        return True

    async def is_healthy(self) -> bool:
        """Whether every engine works."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return all(await asyncio.gather(*(engine.is_healthy.remote() for engine in self._all)))
        except _AWAY:
            return False

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        body: bytes = (await receive()).get("body", b"") if scope["method"] == "POST" else b""
        model: str | None = scope.get("state", {}).get(STATE_MODEL)
        engine = self._choose(scope["method"], model).options(stream=True)
        parts = engine.forward.remote({name: scope[name] for name in _PASSED_ON if name in scope}, body, model)
        try:
            async for message in parts:
                await send(message)
        except _AWAY:
            raise make_unavailable_error() from None
        except asyncio.CancelledError:  # the client has gone
            parts.cancel()
            raise

    def _choose(self, method: str, model: str | None) -> Any:
        """Choose the engine of the model that a request names.

        Raises:
            ApiError: it names none, and there are several.
        """
        if method != "POST":  # such as the documentation, which all have
            return self._all[0]
        if model is None:
            raise ApiError(400, f"model: name one of {', '.join(self._engines)}", code="model_not_found", param="model")
        return self._engines[model]


async def _live(receive: Receive, send: Send) -> None:
    """Answer the messages of a server about its start and end."""
    with suppress(asyncio.CancelledError):
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
