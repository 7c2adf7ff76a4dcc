"""The vLLM engine behind each replica, started with as few processes as vLLM allows. The only importer of vLLM.

Every process that imports vLLM costs some fifteen CPU seconds and half a gigabyte before it does any work, so on a small
machine their number decides how long an endpoint takes to answer. On a CPU Ray Serve LLM starts four such processes a model
and one for all; this way there are two a model.
"""

import os
from typing import Any

from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.serve.llm.deployment import LLMServer


class LeanEngine(VLLMEngine):
    """Ray Serve LLM's engine without a task that downloads and, where the engine arguments say so, without a worker process."""

    async def start(self) -> None:
        """Start the engine from the model's folder, which needs no download."""
        callback = self.llm_config.get_or_create_callback()
        assert callback is not None
        callback.ctx.run_init_node = False
        # Ray sets this to the CPUs that an actor reserves; the engine's process inherits it and would compute on one core.
        os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
        await super().start()

    def _prepare_engine_config(self, callback_ctx: Any) -> Any:
        arguments, frontend, config = super()._prepare_engine_config(callback_ctx)
        # On a CPU Ray Serve LLM overwrites this one argument with "mp", whatever the config asks for.
        wanted = self.llm_config.engine_kwargs.get("distributed_executor_backend")
        if wanted is not None:
            config.parallel_config.distributed_executor_backend = wanted
        return arguments, frontend, config


class LeanServer(LLMServer):
    """A replica with a ``LeanEngine``, which reports no usage: the actor that collects reports would import vLLM as well."""

    async def start(self) -> None:
        """Return when the engine is ready."""
        self.engine = LeanEngine(self._llm_config)
        await self.engine.start()
