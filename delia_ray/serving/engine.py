"""The server of each replica: an engine, and vLLM's application in the same process, so that nothing lies between them.

Every process that imports vLLM takes some fifteen CPU seconds and half a gigabyte before it does any work, so on a small machine their
number determines how long an endpoint takes to start. On a CPU Ray Serve LLM starts four such processes per model and one for all; with
these classes there are two per engine.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Any

from ray.serve.llm.deployment import LLMServer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from delia_ray.core.errors import UserError
from delia_ray.core.storage.transfer import fetch
from delia_ray.serving.engine_specs import EngineSpec, ServedModel
from delia_ray.serving.finished_models import check_unchanged, find_adapters
from delia_ray.serving.http.errors import ErrorMiddleware, make_unavailable_error, make_unknown_model_error
from delia_ray.serving.http.frontend import build_frontend
from delia_ray.serving.options import EndpointOptions
from delia_ray.upstream.ray_llm import LocalEngine
from delia_ray.upstream.ray_serve import listen_on_node_address

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 0.5
_RETRY_SECONDS = 5.0
_PATIENCE_SECONDS = 300.0
"""How long an engine may be away before Ray Serve is told to start another replica, where there is room on whatever node."""
LOOK_SECONDS = 2.0
"""How often the run is asked what was finished meanwhile, at most."""


class ModelServer(LLMServer):
    """A replica.

    It is without usage reports: the actor that collects them would import vLLM, too.
    """

    async def __init__(self, llm_config: Any, *, spec: EngineSpec, options: EndpointOptions):
        """Start the engine.

        Args:
            options: keys and limits hold where requests come to the replica directly.
        """
        listen_on_node_address()
        self._spec, self._options = spec, options
        self._models = {model.name: model for model in spec.models}
        self._refused: set[str] = set()  # fingerprints of adapters that vLLM does not take
        self._looking, self._next_look = asyncio.Lock(), 0.0
        await super().__init__(llm_config)
        self._app: Any = await self.engine.build_asgi_app()
        self._worked = time.monotonic()
        self._watching = asyncio.create_task(self._watch())  # a reference keeps it from being collected

    async def start(self) -> None:
        """Start the engine and return when it is ready."""
        self.engine: Any = await self._build_engine()

    async def _build_engine(self) -> LocalEngine:
        for model in [*self._models.values()]:
            await asyncio.to_thread(self._fetch, model)
        adapters = {model.name: model.folder for model in self._models.values() if model.is_adapter}
        engine = LocalEngine(self._llm_config, adapters)
        with ExitStack() as unless_ready:
            unless_ready.callback(engine.close)  # its process may be there
            await engine.start()
            unless_ready.pop_all()
        return engine

    def _fetch(self, model: ServedModel) -> None:
        """Fetch a model, unless the node has it; an adapter that was built anew is one that was finished meanwhile.

        Raises:
            UserError: the engine's own model is not what it was.
        """
        try:
            check_unchanged(model)
        except UserError:
            if not model.is_adapter:
                raise
            logger.exception("%s is not what it was, and is looked for in the run", model.name)
            del self._models[model.name]
        else:
            fetch(model.folder)

    async def _watch(self) -> None:
        """Start the engine again when its process has ended; Ray Serve would take half a minute to see it, and another to import vLLM."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if self.is_alive():
                self._worked = time.monotonic()
                continue
            logger.error("the engine of %s has ended; it is started again", self._spec.name)
            await asyncio.sleep(_WATCH_SECONDS)  # the start blocks, and requests in progress should be answered before
            self.engine.close()
            (built,) = await asyncio.gather(self._build_engine(), return_exceptions=True)
            if isinstance(built, BaseException):  # requests get 503 until it works again
                logger.error("the engine of %s cannot be started now", self._spec.name, exc_info=built)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            built.rebind_app(self._app)
            self.engine = built

    async def check_health(self) -> None:
        """Tell Ray Serve that the replica works, also while it starts its engine again.

        Raises:
            RuntimeError: that has not worked for minutes.
        """
        away = time.monotonic() - self._worked
        if self._watching.done() or (not self.is_alive() and away > _PATIENCE_SECONDS):
            raise RuntimeError(f"the engine of {self._spec.name} has been away for {away:.0f} s")

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        return build_frontend(self._app, self._options, self)

    async def list_models(self) -> list[ServedModel]:
        """List the models that answer."""
        await self._look_for_adapters()
        return [*self._models.values()]

    async def has_model(self, name: str, *, at_once: bool = False) -> bool:
        """Whether a model answers; it may have been finished meanwhile.

        Args:
            at_once: look for it also if that was done just now.

        Raises:
            ApiError: that cannot be told while the engine is started again.
        """
        if name not in self._models:
            await self._look_for_adapters(at_once=at_once)
            if name not in self._models and not self.is_alive():
                raise make_unavailable_error()
        return name in self._models

    async def _look_for_adapters(self, *, at_once: bool = False) -> None:
        """Load the adapters that were finished meanwhile."""
        if self._options.run is None or not self._spec.adapters:
            return
        async with self._looking:
            if (time.monotonic() < self._next_look and not at_once) or not self.is_alive():
                return
            try:
                for model in await asyncio.to_thread(find_adapters, self._options.run, self._spec.model, {*self._models}):
                    if self._has_place() and model.metadata["fingerprint"] not in self._refused:
                        await self._load(model)
            except (UserError, OSError):
                logger.exception("what was finished meanwhile cannot be read now")
            self._next_look = time.monotonic() + LOOK_SECONDS

    def _has_place(self) -> bool:
        """Whether one more adapter leaves a place empty (``build_adapter_kwargs``)."""
        adapters = sum(model.is_adapter for model in self._models.values())
        return adapters + 1 < self._llm_config.engine_kwargs.get("max_loras", 0)

    async def _load(self, model: ServedModel) -> None:
        await asyncio.to_thread(fetch, model.folder)
        try:
            await self.engine.load_adapter(model.name, model.folder)
        except RuntimeError:
            logger.exception("%s was finished meanwhile, but is not served", model.name)
            if self.is_alive():
                self._refused.add(model.metadata["fingerprint"])
        else:
            self._models[model.name] = model

    def is_alive(self) -> bool:
        """Whether the engine works."""
        return self.engine.is_alive()

    async def is_healthy(self) -> bool:
        """Whether the engine works."""
        return self.is_alive()

    async def forward(self, scope: Scope, body: bytes, model: str | None) -> AsyncGenerator[Message]:
        """Answer a request to a model that another replica received: its parts, as ASGI messages."""
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        is_over = asyncio.Event()
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if parts:
                return parts.pop()
            await is_over.wait()
            return {"type": "http.disconnect"}

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if model is not None and not await self.has_model(model, at_once=True):  # another replica may have found it
                raise make_unknown_model_error(model)
            await self._app(scope, receive, send)

        async def answer() -> None:
            try:
                await ErrorMiddleware(app, self)(scope, receive, messages.put)
            finally:
                await messages.put(None)

        task = asyncio.create_task(answer())
        try:
            while (message := await messages.get()) is not None:
                yield message
            await task
        finally:  # also if the client has gone: then the engine stops to answer
            is_over.set()
            task.cancel()
