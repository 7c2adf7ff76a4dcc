"""vLLM 0.29: the base class of custom logits processors and the update of a batch, which are in ``vllm.v1``.

Can go when they are exported from ``vllm``: https://docs.vllm.ai/en/latest/features/custom_logitsprocs.html.
"""

from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

__all__ = ["BatchUpdate", "LogitsProcessor", "process_dict_updates"]
