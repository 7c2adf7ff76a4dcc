"""Memory of a vLLM engine, from a model's configuration: its weights, and the cache of keys and values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delia_ray.models.families import cache_width
from delia_ray.placement import Engine, EngineResources
from delia_ray.ray_runtime.resources import GIB


@dataclass(frozen=True)
class EngineMemory:
    """Memory of one engine; with several GPUs, of each of them."""

    weights: int
    """Bytes."""
    token: int
    """Bytes of the cache for one token. Layers with a sliding window keep fewer tokens, which is not counted."""
    max_model_len: int
    """Longest prompt and answer together, in tokens."""
    max_num_seqs: int
    """Sequences in a batch at most."""
    cache: int | None
    """Bytes of the cache where they are configured, on a CPU; None on a GPU, where vLLM takes most of what weights leave."""

    @property
    def full_batch(self) -> int:
        """Bytes of the cache that ``max_num_seqs`` sequences of ``max_model_len`` tokens fill."""
        return self.token * self.max_model_len * self.max_num_seqs

    @property
    def total(self) -> int:
        """Bytes of weights and cache; on a GPU with a cache for a full batch, which is the most that is of use."""
        return self.weights + (self.full_batch if self.cache is None else self.cache)


def estimate_engine(folder: Path, engine: Engine, itemsize: int, max_model_len: int, resources: EngineResources) -> EngineMemory:
    """Estimate an engine's memory from the model's ``config.json``.

    Args:
        itemsize: bytes of a weight.
        max_model_len: longest prompt and answer together, in tokens.
        resources: of the engine, whose GPUs share weights and cache.
    """
    import torch  # noqa: PLC0415  seconds to import
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415

    with torch.device("meta"):
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    shares = resources.processes
    cache = int(engine.kv_cache_gib * GIB) if resources.on_cpu else None
    weights = itemsize * sum(weight.numel() for weight in model.parameters()) // shares
    return EngineMemory(weights, itemsize * cache_width(model) // shares, max_model_len, engine.max_num_seqs, cache)
