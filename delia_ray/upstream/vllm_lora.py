"""vLLM 0.29: which adapters its class of an architecture takes, which otherwise only an engine's start tells, and how many it has room for.

Can go when vLLM says it: https://docs.vllm.ai/en/stable/features/lora.html, and when its CPU kernels know requests without an adapter
(``tests/integration/test_mixed_batch.py``).
"""

from collections.abc import Sequence
from typing import Any

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that ``max_lora_rank`` may have."""


def explain_unsupported(architecture: str, *, adapts_embeddings: bool) -> str | None:
    """Explain why vLLM takes no such adapter for an architecture; None if it does.

    Args:
        architecture: as in ``architectures`` of ``config.json``.
        adapts_embeddings: whether the adapter changes an embedding matrix.
    """
    from vllm.model_executor.models.registry import ModelRegistry  # noqa: PLC0415  ten seconds to import

    registered: Any = ModelRegistry.models.get(architecture)
    if registered is None:
        return f"vLLM has no class of its own for {architecture}"
    model_class = registered.load_model_cls()
    if not getattr(model_class, "supports_lora", False):
        return f"vLLM takes no adapters for {architecture}"
    if adapts_embeddings and not getattr(model_class, "embedding_modules", None):
        return f"vLLM takes no adapters on the embeddings of {architecture}"
    return None


def build_adapter_kwargs(ranks: Sequence[int], spare: int = 0) -> dict[str, Any]:
    """Build vLLM's engine arguments for adapters of these ranks that are served together with the model that they adapt.

    There is a place for each, and one that stays empty: on a CPU vLLM 0.29 looks up the adapter of a request that has none at place -1,
    which is the last one, and would answer with it if it were taken.

    Args:
        spare: places for adapters that are loaded later.
    """
    places = len(ranks) + spare + 1
    return {
        "enable_lora": True,
        "max_loras": places,
        "max_cpu_loras": places,
        "max_lora_rank": min(rank for rank in LORA_RANKS if rank >= max(ranks)),
    }
