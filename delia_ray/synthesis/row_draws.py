"""``nucleus.draw`` inside vLLM, as one of its custom logits processors.

vLLM's own top-p sorts the vocabulary for every token, which on a CPU costs more than the model. A request that carries
``extra_args["nucleus"]`` is greedy to vLLM: the drawn token's logit is made infinite before the largest is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from delia_ray.synthesis.nucleus import draw, uniform


@dataclass(frozen=True)
class _Row:
    temperature: float
    top_p: float
    seed: int
    written: list[int]
    """vLLM's own list, which grows with the answer."""


class NucleusDraws(LogitsProcessor):
    """Draws for the rows that ask for it and leaves the others alone."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool):
        self._rows: dict[int, _Row] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._rows, batch_update, _row)

    def apply(self, logits: Tensor) -> Tensor:
        if not self._rows:
            return logits
        places = sorted(self._rows)
        rows = [self._rows[place] for place in places]
        # Mostly every row of the batch draws, and then nothing need be copied.
        asked = logits if len(places) == len(logits) else logits[places]
        numbers = [[row.temperature, row.top_p, uniform(row.seed, len(row.written))] for row in rows]
        temperature_B, top_p_B, uniform_B = torch.tensor(numbers, dtype=torch.float64, device=logits.device).unbind(1)
        logits[places, draw(asked, temperature_B, top_p_B, uniform_B)] = torch.inf
        return logits


def _row(params: SamplingParams, prompt_ids: list[int] | None, output_ids: list[int]) -> _Row | None:
    asked: Mapping[str, Any] | None = (params.extra_args or {}).get("nucleus")
    return None if asked is None else _Row(written=output_ids, **asked)
