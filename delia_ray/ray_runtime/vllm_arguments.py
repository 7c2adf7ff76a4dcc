"""vLLM's engine arguments from a placement."""

from typing import Any

from delia_ray.placement import Engine, EngineResources, Quantization
from delia_ray.ray_runtime.resources import GIB

VLLM_SHARE = 0.92
"""Share of a whole GPU's memory that vLLM takes by default."""
_SHARE_OF_PART = 0.9
"""Of the part of a GPU that an engine reserves, what it takes: the rest is for its CUDA context."""


def get_memory_share(engine: Engine, resources: EngineResources) -> float:
    """Return the share of each GPU's memory that an engine takes."""
    default = _SHARE_OF_PART * resources.num_gpus if resources.num_gpus < 1 else VLLM_SHARE
    return engine.gpu_memory_utilization or default


def build_quantization_kwargs(quantization: Quantization | None) -> dict[str, Any]:
    """Build vLLM's engine arguments for weights that it quantizes when it loads them."""
    # A scale for each output channel is as fast as one for all, and nearer to the weights.
    names = {"fp8": "fp8_per_channel", "bitsandbytes": "bitsandbytes"}
    return {"quantization": names[quantization]} if quantization else {}


def choose_quantized_dtype(dtype: str, quantization: Quantization | None) -> str:
    """Return the precision in which an engine computes: kernels for quantized weights take no float32."""
    return "bfloat16" if quantization and dtype == "float32" else dtype


def build_engine_kwargs(engine: Engine, dtype: str, max_model_len: int, resources: EngineResources) -> dict[str, Any]:
    """Build vLLM's engine arguments for an engine on ``resources``."""
    enforce_eager = engine.enforce_eager if engine.enforce_eager is not None else resources.on_cpu
    shared: dict[str, Any] = {
        "dtype": dtype,
        "max_model_len": max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "enforce_eager": enforce_eager,
        "trust_remote_code": False,
    }
    if not resources.on_cpu:
        return {
            **shared,
            "tensor_parallel_size": max(1, int(resources.num_gpus)),
            "pipeline_parallel_size": resources.pipeline_parallel,
            "gpu_memory_utilization": get_memory_share(engine, resources),
        }
    # The ``uni`` executor starts one process fewer than the default. No chunked prefill: a seeded request with a chunked prompt
    # makes vLLM rewind its random generator, which a CPU generator cannot do ("CPU Generator does not use offset").
    return {
        **shared,
        "distributed_executor_backend": "uni",
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(max_model_len, 4096),
        "kv_cache_memory_bytes": int(engine.kv_cache_gib * GIB),
    }
