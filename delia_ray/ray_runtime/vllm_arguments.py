"""vLLM's engine arguments from a placement."""

from typing import Any

from delia_ray.placement import Engine
from delia_ray.ray_runtime.resources import GIB


def build_engine_kwargs(engine: Engine, dtype: str, max_model_len: int, num_gpus: int) -> dict[str, Any]:
    """Build vLLM's engine arguments for an engine on ``num_gpus`` GPUs, or on the CPU if 0."""
    on_cpu = num_gpus == 0
    enforce_eager = engine.enforce_eager if engine.enforce_eager is not None else on_cpu
    shared: dict[str, Any] = {
        "dtype": dtype,
        "max_model_len": max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "enforce_eager": enforce_eager,
        "trust_remote_code": False,
    }
    if not on_cpu:
        return {**shared, "tensor_parallel_size": num_gpus}
    # The ``uni`` executor starts one process fewer than the default. No chunked prefill: a seeded request with a chunked prompt
    # makes vLLM rewind its random generator, which a CPU generator cannot do ("CPU Generator does not use offset").
    return {
        **shared,
        "distributed_executor_backend": "uni",
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(max_model_len, 4096),
        "kv_cache_memory_bytes": int(engine.kv_cache_gib * GIB),
    }
