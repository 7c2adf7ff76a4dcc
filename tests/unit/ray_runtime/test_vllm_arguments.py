"""vLLM's arguments for the resources of an engine."""

import pytest
from pydantic import ValidationError
from vllm.engine.arg_utils import EngineArgs

from delia_ray.placement import ActorPool, Engine, EngineResources, Replicas
from delia_ray.ray_runtime.vllm_arguments import build_engine_kwargs


@pytest.mark.parametrize(
    ("engine", "resources", "expected"),
    [
        (Engine(), ActorPool(num_gpus=1), {"tensor_parallel_size": 1, "pipeline_parallel_size": 1}),
        (Engine(), ActorPool(num_gpus=4, pipeline_parallel=2), {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}),
        (Engine(), Replicas(num_gpus=0.3), {"tensor_parallel_size": 1, "gpu_memory_utilization": pytest.approx(0.27)}),
        (Engine(gpu_memory_utilization=0.5), Replicas(num_gpus=0.3), {"gpu_memory_utilization": 0.5}),
        (Engine(kv_cache_gib=2), Replicas(), {"kv_cache_memory_bytes": 2 * 2**30, "distributed_executor_backend": "uni"}),
    ],
)
def test_an_engine_takes_what_it_reserves(engine: Engine, resources: EngineResources, expected: dict[str, object]):
    kwargs = build_engine_kwargs(engine, "bfloat16", 1024, resources)
    assert {name: kwargs[name] for name in expected} == expected
    assert not resources.on_cpu or "gpu_memory_utilization" not in kwargs
    EngineArgs(model="any", **kwargs)  # vLLM knows every one of them


def test_a_whole_gpu_keeps_vllms_own_share_of_memory():
    kwargs = build_engine_kwargs(Engine(), "bfloat16", 1024, Replicas(num_gpus=1))
    assert kwargs["gpu_memory_utilization"] == EngineArgs(model="any").gpu_memory_utilization


@pytest.mark.parametrize(
    ("words", "said"), [({"num_gpus": 1.5}, "whole number"), ({"num_gpus": 0.5, "pipeline_parallel": 2}, "whole GPUs")]
)
def test_parts_of_gpus_that_cannot_be_are_refused(words: dict[str, float], said: str):
    with pytest.raises(ValidationError, match=said):
        Replicas(**words)  # pyright: ignore[reportArgumentType]
