"""The vLLM stage of ``ray.data.llm``, extended to request final outputs only and to report its CPU and wall time after every batch."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from vllm.sampling_params import RequestOutputKind

from delia_ray.core.storage.transfer import fetch
from delia_ray.ray_runtime.tally import RayTally
from delia_ray.synthesis.engines.metering import Stopwatch
from delia_ray.upstream.ray_llm import BATCH_STAGE, vLLMEngineStageUDF


class MeteredvLLMEngine(vLLMEngineStageUDF):
    """A vLLM engine in its actor, with its usage reported to a tally."""

    def __init__(self, *args: Any, tally: RayTally, model: str, **kwargs: Any):
        self._stopwatch = Stopwatch(tally)
        super().__init__(*args, model=str(fetch(Path(model))), **kwargs)

    async def udf(self, batch: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        for row in batch:
            row["sampling_params"]["output_kind"] = RequestOutputKind.FINAL_ONLY  # vLLM would return every token
        async for row in super().udf(batch):
            yield row
        self._stopwatch.report()


def add_metering(processor: Any, tally: RayTally) -> Any:
    """Replace the processor's vLLM stage by the metered one, and return the processor."""
    stage = processor.stages[BATCH_STAGE]
    kwargs = {**stage.fn_constructor_kwargs, "tally": tally}
    # A copy, since an assignment would make the stage compute its resources again.
    processor.stages[BATCH_STAGE] = stage.model_copy(update={"fn": MeteredvLLMEngine, "fn_constructor_kwargs": kwargs})
    return processor
