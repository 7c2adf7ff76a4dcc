"""Ray 2.60: the vLLM engines of ``ray.data.llm`` and ``ray.serve.llm``, which both build on classes in ``ray.llm._internal``.

Can go when Ray offers a hook around a batch's engine calls, and when an engine of ``ray.serve.llm`` starts on a CPU without a process of
its own, takes adapters of local folders, and starts again after it has ended: https://github.com/ray-project/ray/tree/master/python/ray/llm.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine

__all__ = ["BATCH_STAGE", "LocalEngine", "VLLMEngine", "vLLMEngineStageUDF"]

BATCH_STAGE = "vLLMEngineStage"
"""The engine's stage among ``Processor.stages``."""


class LocalEngine(VLLMEngine):
    """An engine of ``ray.serve.llm`` with a model and adapters of local folders, and without Ray's download task."""

    def __init__(self, llm_config: Any, adapters: Mapping[str, Path]):  # Ray has two classes of that name
        """Prepare the engine.

        Args:
            adapters: name -> folder.
        """
        super().__init__(llm_config)
        self._adapters = adapters

    async def start(self) -> None:
        """Start the engine and return when it is ready."""
        callback = self.llm_config.get_or_create_callback()
        assert callback is not None
        callback.ctx.run_init_node = False
        # Ray sets this to the number of CPUs that an actor reserves; the engine's process inherits it and would compute on one core.
        os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
        await super().start()

    def _prepare_engine_config(self, callback_ctx: Any) -> Any:
        from vllm.entrypoints.openai.models.protocol import LoRAModulePath  # noqa: PLC0415  ten seconds to import

        arguments, frontend, config = super()._prepare_engine_config(callback_ctx)
        # On a CPU Ray Serve LLM overwrites this argument with "mp", whatever the config says.
        backend = self.llm_config.engine_kwargs.get("distributed_executor_backend")
        if backend is not None:
            config.parallel_config.distributed_executor_backend = backend
        frontend.lora_modules = [LoRAModulePath(name, str(path)) for name, path in self._adapters.items()]
        frontend.allowed_origins = []  # ours adds those that are configured
        frontend.enable_offline_docs = True
        return arguments, frontend, config

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Load one more adapter.

        Raises:
            RuntimeError: vLLM does not take it.
        """
        from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest  # noqa: PLC0415  as above

        assert self._oai_models is not None
        said = await self._oai_models.load_lora_adapter(LoadLoRAAdapterRequest(lora_name=name, lora_path=str(folder)))
        if not isinstance(said, str):
            raise RuntimeError(f"the adapter {folder} cannot be loaded: {said.error.message}")

    def rebind_app(self, app: Any) -> None:
        """Let the application of an engine that has ended answer with this one."""
        own: Any = self._app_state
        app.state._state.update(own._state)  # as ``build_asgi_app`` does

    def is_alive(self) -> bool:
        """Whether the engine's process works."""
        client: Any = self._engine_client
        return client is not None and not client.errored

    def close(self) -> None:
        """End what is left of the engine, so that it holds no memory."""
        client: Any = self._engine_client
        if client is not None:
            client.shutdown()
