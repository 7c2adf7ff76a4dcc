"""Seeded top-p sampling as a custom logits processor of vLLM.

vLLM's own top-p sampling sorts the vocabulary for every token, which on a CPU costs more than the model. A request with
``extra_args["nucleus"]`` is greedy to vLLM: the logit of the token sampled by ``nucleus.sample_top_p`` is set to infinity, so that
the argmax selects it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.config import VllmConfig

from delia_ray.synthesis.engines.nucleus import sample_top_p, uniform
from delia_ray.upstream.vllm_logits_processors import BatchUpdate, LogitsProcessor, process_dict_updates


@dataclass(frozen=True)
class _SamplingRow:
    temperature: float
    top_p: float
    seed: int
    output_ids: list[int]
    """vLLM's own list of generated ids, which grows during generation."""


class SeededTopP(LogitsProcessor):
    """Samples tokens for the requests with ``extra_args["nucleus"]`` and leaves other rows unchanged."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool):
        self._rows: dict[int, _SamplingRow] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._rows, batch_update, _build_row)

    def apply(self, logits: Tensor) -> Tensor:
        if not self._rows:
            return logits
        indices = sorted(self._rows)
        rows = [self._rows[index] for index in indices]
        # Usually all rows of the batch are sampled, and nothing need be copied.
        selected = logits if len(indices) == len(logits) else logits[indices]
        parameters = [[row.temperature, row.top_p, uniform(row.seed, len(row.output_ids))] for row in rows]
        temperature_B, top_p_B, uniform_B = torch.tensor(parameters, dtype=torch.float64, device=logits.device).unbind(1)
        logits[indices, sample_top_p(selected, temperature_B, top_p_B, uniform_B)] = torch.inf
        return logits


def _build_row(params: SamplingParams, _prompt_ids: list[int] | None, output_ids: list[int]) -> _SamplingRow | None:
    nucleus: Mapping[str, Any] | None = (params.extra_args or {}).get("nucleus")
    return None if nucleus is None else _SamplingRow(output_ids=output_ids, **nucleus)
