"""The vLLM engine and the server of each replica. Only this module of the package imports vLLM.

Every process that imports vLLM takes some fifteen CPU seconds and half a gigabyte before it does any work, so on a small machine their
number determines how long an endpoint takes to start. On a CPU Ray Serve LLM starts four such processes per model and one for all; with
these classes there are two per engine. Requests are answered by vLLM's own application in the replica, so that nothing lies between them
and the engine.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from ray.serve.llm.deployment import LLMServer
from starlette.types import ASGIApp, Message, Scope
from vllm.entrypoints.openai.models.protocol import LoRAModulePath
from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest

from delia_ray.core.storage.transfer import fetch
from delia_ray.placement import Access
from delia_ray.serving.finished_models import find_adapter
from delia_ray.serving.forms import EnginePlan, ServedModel
from delia_ray.serving.http.frontend import build_frontend
from delia_ray.serving.http.guard import Guard
from delia_ray.upstream.ray_llm import VLLMEngine

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 0.5


class ServedEngine(VLLMEngine):
    """Ray Serve LLM's vLLM engine without its download task, with adapters of local folders, and, if the engine arguments say so,
    without a separate worker process."""

    def __init__(self, llm_config: Any, plan: EnginePlan):  # Ray has two classes of that name
        super().__init__(llm_config)
        self._plan = plan

    async def start(self) -> None:
        """Start the engine from the model's local folder, without Ray Serve LLM's download task."""
        callback = self.llm_config.get_or_create_callback()
        assert callback is not None
        callback.ctx.run_init_node = False
        # Ray sets this to the number of CPUs that an actor reserves; the engine's process inherits it and would compute on one core.
        os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
        for folder in (self._plan.folder, *self._plan.adapters.values()):
            await asyncio.to_thread(fetch, folder)  # a node that has it fetches nothing
        await super().start()

    def _prepare_engine_config(self, callback_ctx: Any) -> Any:
        arguments, frontend, config = super()._prepare_engine_config(callback_ctx)
        # On a CPU Ray Serve LLM overwrites this argument with "mp", whatever the config says.
        backend = self.llm_config.engine_kwargs.get("distributed_executor_backend")
        if backend is not None:
            config.parallel_config.distributed_executor_backend = backend
        frontend.lora_modules = [LoRAModulePath(name, str(path)) for name, path in self._plan.adapters.items()]
        frontend.allowed_origins = []  # ``build_frontend`` adds those that are configured
        frontend.enable_offline_docs = True
        return arguments, frontend, config

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Load one more adapter.

        Raises:
            RuntimeError: vLLM does not take it.
        """
        await asyncio.to_thread(fetch, folder)
        assert self._oai_models is not None
        said = await self._oai_models.load_lora_adapter(LoadLoRAAdapterRequest(lora_name=name, lora_path=str(folder)))
        if not isinstance(said, str):
            raise RuntimeError(f"the adapter {folder} cannot be loaded: {said.error.message}")

    async def take_over(self, app: Any) -> None:
        """Let the application of an engine that has ended answer with this one."""
        own: Any = self._app_state
        app.state._state.update(own._state)  # as ``build_asgi_app`` does

    def is_alive(self) -> bool:
        """Whether the engine's process works."""
        client: Any = self._engine_client
        return client is not None and not client.errored


class ModelServer(LLMServer):
    """A replica: an engine, and vLLM's application that answers for it.

    It is without usage reports: the actor that collects them would import vLLM, too.
    """

    async def __init__(
        self, llm_config: Any, *, plan: EnginePlan, access: Access | None = None, keys: Sequence[str] = (), run: Path | None = None
    ):
        """Start the engine.

        Args:
            access: limits, where requests come to the replica directly.
            run: folder of the run whose adapters are served as they are finished.
        """
        self._models = {model.name: model for model in plan.models}
        self._plan, self._access, self._keys, self._run = plan, access or Access(), keys, run
        self._loading = asyncio.Lock()
        await super().__init__(llm_config)
        self._app: Any = await self.engine.build_asgi_app()
        self._watching = asyncio.create_task(self._watch())
        self._watching.add_done_callback(self._end)

    async def start(self) -> None:
        """Start the engine and return when it is ready."""
        self.engine: Any = ServedEngine(self._llm_config, self._plan)
        await self.engine.start()

    async def _watch(self) -> None:
        """Start the engine again when its process has ended; Ray Serve would take half a minute to see it, and another to import vLLM."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if self.is_alive():
                continue
            logger.error("the engine of %s has ended; it is started again", self._plan.name)
            await asyncio.sleep(_WATCH_SECONDS)  # the start blocks, and requests in progress should be answered before
            await self._restart()

    def _end(self, watching: "asyncio.Task[None]") -> None:
        """End the replica if its engine cannot be started again; Ray Serve starts another."""
        if not watching.cancelled():
            logger.error("the engine of %s cannot be started again; the replica ends", self._plan.name, exc_info=watching.exception())
            os._exit(1)

    async def _restart(self) -> None:
        engine = ServedEngine(self._llm_config, self._plan)
        await engine.start()
        for name, model in self._models.items():
            if model.adapter is not None and name not in self._plan.adapters:
                await engine.load_adapter(name, model.adapter)
        await engine.take_over(self._app)
        self.engine = engine

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        return build_frontend(self._app, self._access, self._keys, self)

    async def list_models(self) -> list[ServedModel]:
        """List the models that answer."""
        return list(self._models.values())

    async def knows(self, name: str) -> bool:
        """Whether a model answers; one of the run that was finished meanwhile is loaded first if it is an adapter over the same base."""
        if name not in self._models and self._run is not None:
            async with self._loading:
                if name not in self._models and self._has_place():
                    await self._load_finished(name)
        return name in self._models

    def _has_place(self) -> bool:
        """Whether one more adapter leaves a place empty (``build_adapter_kwargs``)."""
        adapters = sum(model.adapter is not None for model in self._models.values())
        return adapters + 1 < self._llm_config.engine_kwargs.get("max_loras", 0)

    async def _load_finished(self, name: str) -> None:
        assert self._run is not None
        base = self._models[self._plan.name].metadata["fingerprint"]
        if found := await asyncio.to_thread(find_adapter, self._run, name, base):
            assert found.adapter is not None
            try:
                await self.engine.load_adapter(name, found.adapter)
            except RuntimeError:
                logger.exception("%s was finished meanwhile, but is not served", name)
            else:
                self._models[name] = found

    def is_alive(self) -> bool:
        """Whether the engine works."""
        return self.engine.is_alive()

    async def forward(self, scope: Scope, body: bytes) -> AsyncGenerator[Message]:
        """Answer a request that another replica received: its parts, as ASGI messages."""
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        is_over = asyncio.Event()
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if parts:
                return parts.pop()
            await is_over.wait()
            return {"type": "http.disconnect"}

        async def answer() -> None:
            try:
                await Guard(self._app, self)({**scope, "app": None}, receive, messages.put)
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
