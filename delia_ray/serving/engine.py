"""The vLLM engine and LLM server of each replica, with as few processes as vLLM allows. Only this module of the package
imports vLLM.

Every process that imports vLLM takes some fifteen CPU seconds and half a gigabyte before it does any work, so on a small machine their
number determines how long an endpoint takes to start. On a CPU Ray Serve LLM starts four such processes per model and one for all; with
these classes there are two per model.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

from ray.serve.llm.deployment import LLMServer

from delia_ray.core.storage.transfer import fetch
from delia_ray.upstream.ray_llm import VLLMEngine


class CpuVLLMEngine(VLLMEngine):
    """Ray Serve LLM's vLLM engine without its download task and, if the engine arguments say so, without a separate worker process."""

    async def start(self) -> None:
        """Start the engine from the model's local folder, without Ray Serve LLM's download task."""
        callback = self.llm_config.get_or_create_callback()
        assert callback is not None
        callback.ctx.run_init_node = False
        # Ray sets this to the number of CPUs that an actor reserves; the engine's process inherits it and would compute on one core.
        os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
        loading: Any = self.llm_config.model_loading_config
        await asyncio.to_thread(fetch, Path(loading.model_source))  # a node that has it fetches nothing
        await super().start()

    def _prepare_engine_config(self, callback_ctx: Any) -> Any:
        arguments, frontend, config = super()._prepare_engine_config(callback_ctx)
        # On a CPU Ray Serve LLM overwrites this argument with "mp", whatever the config says.
        backend = self.llm_config.engine_kwargs.get("distributed_executor_backend")
        if backend is not None:
            config.parallel_config.distributed_executor_backend = backend
        return arguments, frontend, config


class CpuLLMServer(LLMServer):
    """Ray Serve LLM's server with a ``CpuVLLMEngine`` and without usage reports: the actor that collects them would import vLLM too."""

    async def start(self) -> None:
        """Start the engine and return when it is ready."""
        self.engine = CpuVLLMEngine(self._llm_config)
        await self.engine.start()
