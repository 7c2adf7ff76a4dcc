"""Ray 2.60: the vLLM engines of ``ray.data.llm`` and ``ray.serve.llm``, which both build on classes in ``ray.llm._internal``.

Can go when Ray offers a hook around a batch's engine calls, and a way to start an engine on a CPU without a process of its own:
https://github.com/ray-project/ray/tree/master/python/ray/llm.
"""

from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine

__all__ = ["BATCH_STAGE", "VLLMEngine", "vLLMEngineStageUDF"]

BATCH_STAGE = "vLLMEngineStage"
"""The engine's stage among ``Processor.stages``."""
