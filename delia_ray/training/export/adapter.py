"""Export of what was trained as one LoRA adapter in PEFT's format, which PEFT and vLLM load over the base model.

An adapter cannot replace rows of an embedding matrix, but a change of N rows is exactly an adapter of rank N: one factor selects the rows,
the other holds the differences to the base's.

Legend: R rank, V vocabulary, D hidden size, N new tokens, I and O inputs and outputs of a layer.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import pad

from delia_ray.models.exported import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from delia_ray.training.model import Trainable

_PREFIX = "base_model.model."
_LINEAR, _EMBEDDING = ("lora_A.weight", "lora_B.weight"), ("lora_embedding_A", "lora_embedding_B")
"""PEFT's names of the two factors of a linear layer, and of an embedding."""


@dataclass(frozen=True)
class LowRankUpdate:
    """The low-rank change ``up_OR @ down_RI`` of the weights of a layer."""

    down_RI: Tensor
    up_OR: Tensor

    @property
    def rank(self) -> int:
        """R."""
        return self.down_RI.shape[0]

    def __add__(self, other: "LowRankUpdate") -> "LowRankUpdate":
        return LowRankUpdate(torch.cat([self.down_RI, other.down_RI]), torch.cat([self.up_OR, other.up_OR], dim=1))

    def with_rank(self, rank: int) -> "LowRankUpdate":
        """Return the same change with more rows and columns, of zeros."""
        more = rank - self.rank
        return LowRankUpdate(pad(self.down_RI, (0, 0, 0, more)), pad(self.up_OR, (0, more)))


def explain_no_adapter(trainable: Trainable) -> str | None:
    """Explain why what was trained is no low-rank change of the base's weights; None if it is one."""
    if trainable.part == "full":
        return "all weights were trained"
    config: LoraConfig | None = getattr(trainable.model, "peft_config", {}).get("default")
    if config is not None and config.use_dora:
        return "DoRA also changes the magnitude of weights"
    if config is not None and config.target_parameters:
        return "the weights of experts were adapted together"
    return None


def write_adapter(trainable: Trainable, new_token_ids: Sequence[int], out: Path) -> None:
    """Write an adapter and the embeddings of the new tokens as one adapter over the base model, in which every layer has the same rank.

    Args:
        trainable: from ``load_trained``, not merged. The base model has a row for each new token.
        out: folder for ``adapter_config.json`` and ``adapter_model.safetensors``, made here.
    """
    updates = dict(_list_adapter_updates(trainable.model))
    for name, update in _list_row_updates(trainable, new_token_ids):
        updates[name] = updates[name] + update if name in updates else update
    rank = max(update.rank for update in updates.values())
    weights: dict[str, Tensor] = {}
    for (layer, (down, up)), update in updates.items():
        padded = update.with_rank(rank)
        weights |= {f"{_PREFIX}{layer}.{down}": padded.down_RI.contiguous(), f"{_PREFIX}{layer}.{up}": padded.up_OR.contiguous()}
    out.mkdir(parents=True)
    save_file(weights, out / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    layers = sorted({layer for layer, _ in updates})
    # PEFT scales by alpha over rank, here by 1: what was trained has its scale in ``up_OR``.
    LoraConfig(r=rank, lora_alpha=rank, target_modules=layers, task_type="CAUSAL_LM", inference_mode=True).save_pretrained(str(out))
    config = json.loads((out / ADAPTER_CONFIG).read_text())  # PEFT writes the layers in another order each time
    (out / ADAPTER_CONFIG).write_text(json.dumps({**config, "target_modules": layers}, indent=1) + "\n")


def _list_adapter_updates(model: Any) -> Iterator[tuple[tuple[str, tuple[str, str]], LowRankUpdate]]:
    """List the changes that an attached adapter makes, by layer and names of its factors."""
    if not hasattr(model, "peft_config"):
        return
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    layers = dict(model.named_modules())
    for names in (_LINEAR, _EMBEDDING):
        down, up = names
        for path in [name.removesuffix(f".{down}") for name in state if name.endswith(f".{down}")]:
            scale: float = layers[path].scaling[model.active_adapter]
            yield (path.removeprefix(_PREFIX), names), LowRankUpdate(state[f"{path}.{down}"], state[f"{path}.{up}"] * scale)


def _list_row_updates(trainable: Trainable, token_ids: Sequence[int]) -> Iterator[tuple[tuple[str, tuple[str, str]], LowRankUpdate]]:
    """List the changes of the rows of new tokens, in the input embedding and in the output head."""
    embeddings = trainable.new_token_embeddings
    if embeddings is None:
        return
    model = trainable.model.get_base_model() if hasattr(trainable.model, "peft_config") else trainable.model
    names = {module: name for name, module in model.named_modules()}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    selection_NV = torch.zeros(len(token_ids), embedding.weight.shape[0]).index_put_(
        (torch.arange(len(token_ids)), torch.tensor(token_ids)), torch.tensor(1.0)
    )
    change_ND = (embeddings.input_ND - embedding.weight[list(token_ids)]).detach()
    yield (names[embedding], _EMBEDDING), LowRankUpdate(selection_NV, change_ND.T)
    change_ND = (embeddings.output_ND - head.weight[list(token_ids)]).detach()
    yield (names[head], _LINEAR), LowRankUpdate(change_ND, selection_NV.T)
