"""The model as it is trained: start weights, adapter, new rows; and how the result is saved and put back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from safetensors.torch import load_file, save_file

from delia_ray.errors import UserError
from delia_ray.models import load_model
from delia_ray.training.adapter import fuse_sums
from delia_ray.training.config import FinetuneConfig, Full, Lora, TokenOnly
from delia_ray.training.lora import attach_lora
from delia_ray.training.new_rows import NewRows, write_rows

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

    part: Literal["adapter", "full", "rows"]
    """What of it is saved, besides the new rows."""

    def parameter_groups(self, config: FinetuneConfig) -> list[dict[str, Any]]:
        """AdamW's groups: weights with decay, new rows without and with their own learning rate."""
        weights = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [{"params": weights, "lr": config.learning_rate, "weight_decay": config.weight_decay}]
        if self.rows is not None:
            rate = config.token_learning_rate or config.learning_rate
            groups.append({"params": list(self.rows.parameters()), "lr": rate, "weight_decay": 0.0})
        return [group for group in groups if group["params"]]


def build_trainable(start: Path, new_token_ids: Sequence[int], config: FinetuneConfig, dtype: torch.dtype) -> Trainable:
    """Load ``start`` and make the configured parameters trainable. The adapter's start depends on ``config.seed`` alone.

    Raises:
        UserError: 4-bit weights are asked for where there is no GPU, or an adapter names layers that the model does not have.
    """
    torch.manual_seed(config.seed)
    quantised = isinstance(config.parameters, Lora) and config.parameters.quantised
    model = _load_in_four_bits(start, dtype) if quantised else load_model(start, dtype)
    rows = NewRows(model, new_token_ids) if new_token_ids else None
    match config.parameters:
        case Lora() as lora:
            return Trainable(attach_lora(model, start, lora), rows, "adapter")
        case Full():
            model.requires_grad_(True)
            return Trainable(model, rows, "full")
        case TokenOnly():
            model.requires_grad_(False)
            return Trainable(model, rows, "rows")
        case _:
            assert_never(config.parameters)


def _load_in_four_bits(start: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig  # noqa: PLC0415  seconds to import

    if not torch.cuda.is_available():
        raise UserError(
            "finetune.parameters.quantised: 4-bit weights need a GPU, and this worker has none; set placement.finetune.num_gpus=1, "
            "or finetune.parameters.quantised=false"
        )
    bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
    return AutoModelForCausalLM.from_pretrained(start, dtype=dtype, quantization_config=bits, use_safetensors=True, trust_remote_code=False)


def save_trained(trained: Trainable, folder: Path) -> None:
    """Write what was learnt: the adapter or the full weights, and the new rows."""
    folder.mkdir(parents=True)
    match trained.part:
        case "adapter":  # the tables it may sit on are the start model's
            trained.model.save_pretrained(folder / _ADAPTER, safe_serialization=True, save_embedding_layers=False)
        case "full":
            trained.model.save_pretrained(folder / _FULL, safe_serialization=True)
        case "rows":
            pass
    if trained.rows is not None:
        rows = {key: value.detach().contiguous().clone() for key, value in trained.rows.state_dict().items()}
        save_file(rows, folder / _ROWS_FILE)


def load_trained(start: Path, trained: Path, new_token_ids: Sequence[int], dtype: torch.dtype) -> Trainable:
    """The model as it was trained: what ``save_trained`` wrote beside the start weights, nothing merged."""
    full = trained / _FULL
    model = load_model(full if full.exists() else start, dtype)
    rows = NewRows(model, new_token_ids) if (trained / _ROWS_FILE).exists() else None
    if rows is not None:
        rows.load_state_dict(load_file(trained / _ROWS_FILE))
    if (trained / _ADAPTER).exists():
        from peft import PeftModel  # noqa: PLC0415  seconds to import

        model = PeftModel.from_pretrained(model, trained / _ADAPTER, autocast_adapter_dtype=False)
        fuse_sums(model)
    return Trainable(model.to(dtype), rows if rows is None else rows.to(dtype), "full" if full.exists() else "adapter")


def merge_trained(start: Path, trained: Path, new_token_ids: Sequence[int], dtype: torch.dtype) -> Any:
    """The start model with what ``save_trained`` wrote merged into plain weights."""
    full = trained / _FULL
    model = load_model(full if full.exists() else start, dtype)
    # Before the adapter, which may add to the new rows as to any other.
    if (trained / _ROWS_FILE).exists():
        write_rows(load_file(trained / _ROWS_FILE), model, new_token_ids)
    if (trained / _ADAPTER).exists():
        from peft import PeftModel  # noqa: PLC0415  seconds to import

        adapted: Any = PeftModel.from_pretrained(model, trained / _ADAPTER)
        return adapted.merge_and_unload(safe_merge=True)
    return model
