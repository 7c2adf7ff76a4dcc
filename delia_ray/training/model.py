"""The model as it is trained: start weights, adapter, new rows; and how the result is saved and put back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from delia_ray.models import load_model
from delia_ray.training.config import FinetuneConfig, Full, Lora
from delia_ray.training.new_rows import NewRows

_ROWS_FILE = "new_rows.safetensors"
_ADAPTER = "adapter"
_FULL = "full"


@dataclass(frozen=True)
class Trainable:
    """A model with the parts of it that learn."""

    model: Any
    """The causal language model, adapter included."""
    rows: NewRows | None
    """The new tokens' rows, if the task has any."""

    def parameter_groups(self, config: FinetuneConfig) -> list[dict[str, Any]]:
        """AdamW's groups: weights with decay, new rows without and with their own learning rate."""
        weights = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [{"params": weights, "lr": config.learning_rate, "weight_decay": config.weight_decay}]
        if self.rows is not None:
            rate = config.token_learning_rate or config.learning_rate
            groups.append({"params": list(self.rows.parameters()), "lr": rate, "weight_decay": 0.0})
        return groups


def build_trainable(start: Path, new_token_ids: Sequence[int], config: FinetuneConfig, dtype: torch.dtype) -> Trainable:
    """Load ``start`` and make the configured parameters trainable. The adapter's start depends on ``config.seed`` alone."""
    torch.manual_seed(config.seed)
    model = load_model(start, dtype)
    rows = NewRows(model, new_token_ids) if new_token_ids else None
    match config.parameters:
        case Lora() as lora:
            model = _with_lora(model, lora)
        case Full():
            model.requires_grad_(True)
            if rows is not None:  # the rows learn outside the table, at their own rate
                rows.requires_grad_(True)
        case _:
            assert_never(config.parameters)
    return Trainable(model, rows)


def _with_lora(model: Any, lora: Lora) -> Any:
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415  seconds to import

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    return get_peft_model(
        model,
        LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"),  # pyright: ignore[reportArgumentType]  alpha may be fractional
        autocast_adapter_dtype=False,
    )


def save_trained(trained: Trainable, folder: Path) -> None:
    """Write what was learnt: the adapter or the full weights, and the new rows."""
    name = _ADAPTER if hasattr(trained.model, "peft_config") else _FULL
    trained.model.save_pretrained(folder / name, safe_serialization=True)
    if trained.rows is not None:
        rows = {key: value.detach().contiguous().clone() for key, value in trained.rows.state_dict().items()}
        save_file(rows, folder / _ROWS_FILE)


def merge_trained(start: Path, trained: Path, new_token_ids: Sequence[int], dtype: torch.dtype) -> Any:
    """The start model with what ``save_trained`` wrote merged into plain weights."""
    if (trained / _ADAPTER).exists():
        from peft import PeftModel  # noqa: PLC0415  seconds to import

        adapted: Any = PeftModel.from_pretrained(load_model(start, dtype), trained / _ADAPTER)
        model: nn.Module = adapted.merge_and_unload(safe_merge=True)
    else:
        model = load_model(trained / _FULL, dtype)
    if (trained / _ROWS_FILE).exists():
        rows = NewRows(model, new_token_ids)
        rows.load_state_dict(load_file(trained / _ROWS_FILE))
        rows.write_into(model)
    return model
