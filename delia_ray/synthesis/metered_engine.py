"""``ray.data.llm``'s vLLM stage, which asks for whole answers only and says after every batch what it has used.

The name of its base is internal to Ray; Ray is pinned.
"""

from collections.abc import AsyncIterator
from typing import Any

from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF
from vllm.sampling_params import RequestOutputKind

from delia_ray.runtime import RayTally
from delia_ray.synthesis.metering import Stopwatch


class MeteredvLLMEngine(vLLMEngineStageUDF):
    """One engine in its actor."""

    def __init__(self, *args: Any, tally: RayTally, **kwargs: Any):
        self._stopwatch = Stopwatch(tally)
        super().__init__(*args, **kwargs)

    async def udf(self, batch: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        for row in batch:
            row["sampling_params"]["output_kind"] = RequestOutputKind.FINAL_ONLY  # vLLM would report every token
        async for row in super().udf(batch):
            yield row
        self._stopwatch.report()


def metered(processor: Any, tally: RayTally) -> Any:
    """The processor with its engines metered."""
    stage = processor.stages["vLLMEngineStage"]
    kwargs = {**stage.fn_constructor_kwargs, "tally": tally}
    # A copy, since an assignment would have the stage work out its resources a second time.
    processor.stages["vLLMEngineStage"] = stage.model_copy(update={"fn": MeteredvLLMEngine, "fn_constructor_kwargs": kwargs})
    return processor
