"""The trainable model: base weights, adapter and new token embeddings; saving, loading and merging what was trained."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from delia_ray.core.errors import UserError
from delia_ray.core.storage.transfer import fetch
from delia_ray.models import load_model
from delia_ray.training.config import FinetuneConfig, Full, Lora, TokenOnly
from delia_ray.training.lora import attach_lora
from delia_ray.training.new_token_embeddings import NewTokenEmbeddings, write_embeddings
from delia_ray.training.zero3 import partition_on_load

_EMBEDDINGS_FILE = "new_rows.safetensors"
"""The new token embeddings; finished checkpoints have the file under this name."""
_ADAPTER = "adapter"
FULL = "full"
"""Folder of the full weights."""


@dataclass(frozen=True)
class Trainable:
    """A model and the parameters of it that are trained."""

    model: Any
    """The causal language model, adapter included."""
    new_token_embeddings: NewTokenEmbeddings | None
    """Embeddings of the new tokens, if the task has any."""
    part: Literal["adapter", "full", "embeddings"]
    """What is saved of it: the adapter, all weights, or only the new token embeddings, which are always saved."""

    def saved_parameters(self) -> Iterator[nn.Parameter]:
        """List the parameters that ``save_trained`` writes."""
        if self.part != "embeddings":
            yield from (weight for weight in self.model.parameters() if weight.requires_grad)
        if self.new_token_embeddings is not None:
            yield from self.new_token_embeddings.parameters()

    def parameter_groups(self, config: FinetuneConfig) -> list[dict[str, Any]]:
        """Build AdamW's groups: weights with weight decay; new token embeddings without it and with their own learning rate."""
        weights = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [{"params": weights, "lr": config.learning_rate, "weight_decay": config.weight_decay}]
        if self.new_token_embeddings is not None:
            learning_rate = config.token_learning_rate or config.learning_rate
            groups.append({"params": list(self.new_token_embeddings.parameters()), "lr": learning_rate, "weight_decay": 0.0})
        return [group for group in groups if group["params"]]


def build_trainable(
    base: Path, new_token_ids: Sequence[int], config: FinetuneConfig, dtype: torch.dtype, zero3: Mapping[str, Any] | None = None
) -> Trainable:
    """Load ``base`` and make the configured parameters trainable. The adapter's initialization depends on ``config.seed`` alone.

    Args:
        zero3: a DeepSpeed config of ZeRO stage 3, to load the weights in parts, one on each worker; 4-bit weights are loaded whole.

    Raises:
        UserError: 4-bit weights are configured where there is no GPU, or the adapter names layers that the model does not have.
    """
    load_in_4bit = isinstance(config.parameters, Lora) and config.parameters.load_in_4bit
    with nullcontext() if zero3 is None or load_in_4bit else partition_on_load(zero3):
        model = _load_in_4bit(base, dtype) if load_in_4bit else load_model(base, dtype)
    torch.manual_seed(config.seed)
    return make_trainable(model, base, new_token_ids, config)


def make_trainable(model: Any, base: Path, new_token_ids: Sequence[int], config: FinetuneConfig) -> Trainable:
    """Make the configured parameters of ``model`` trainable.

    Args:
        base: folder with the model's configuration.

    Raises:
        UserError: the adapter names layers that the model does not have.
    """
    embeddings = NewTokenEmbeddings(model, new_token_ids) if new_token_ids else None
    match config.parameters:
        case Lora() as lora:
            return Trainable(attach_lora(model, base, lora), embeddings, "adapter")
        case Full():
            model.requires_grad_(True)
            return Trainable(model, embeddings, "full")
        case TokenOnly():
            model.requires_grad_(False)
            return Trainable(model, embeddings, "embeddings")
        case _:
            assert_never(config.parameters)


def _load_in_4bit(base: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig  # noqa: PLC0415  seconds to import

    if not torch.cuda.is_available():
        raise UserError(
            "finetune.parameters.load_in_4bit: 4-bit weights need a GPU, and this worker has none; set placement.finetune.num_gpus=1, "
            "or finetune.parameters.load_in_4bit=false"
        )
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
    return AutoModelForCausalLM.from_pretrained(base, dtype=dtype, quantization_config=nf4, use_safetensors=True, trust_remote_code=False)


def save_trained(trainable: Trainable, folder: Path) -> None:
    """Write the trained parameters to ``folder``: the adapter or the full weights, and the new token embeddings."""
    folder.mkdir(parents=True, exist_ok=True)
    match trainable.part:
        case "adapter":  # without the embedding matrices that it may adapt: they are the base model's
            trainable.model.save_pretrained(folder / _ADAPTER, safe_serialization=True, save_embedding_layers=False)
        case "full":
            trainable.model.save_pretrained(folder / FULL, safe_serialization=True)
        case "embeddings":
            pass
    if trainable.new_token_embeddings is not None:
        state = trainable.new_token_embeddings.state_dict()
        embeddings = {name: value.detach().contiguous().clone() for name, value in state.items()}
        save_file(embeddings, folder / _EMBEDDINGS_FILE)


def load_trained(base: Path, trained: Path, new_token_ids: Sequence[int], dtype: torch.dtype) -> Trainable:
    """Load the base model with what ``save_trained`` wrote to ``trained`` attached to it, not merged."""
    full = fetch(trained) / FULL
    model = load_model(full if full.exists() else base, dtype)
    embeddings = NewTokenEmbeddings(model, new_token_ids) if (trained / _EMBEDDINGS_FILE).exists() else None
    if embeddings is not None:
        embeddings.load_state_dict(load_file(trained / _EMBEDDINGS_FILE))
    if (trained / _ADAPTER).exists():
        from peft import PeftModel  # noqa: PLC0415  seconds to import

        model = PeftModel.from_pretrained(model, trained / _ADAPTER, autocast_adapter_dtype=False)
    embeddings = embeddings if embeddings is None else embeddings.to(dtype)
    return Trainable(model.to(dtype), embeddings, "full" if full.exists() else "adapter")


def merge_trained(base: Path, trained: Path, new_token_ids: Sequence[int], dtype: torch.dtype) -> Any:
    """Load the base model with what ``save_trained`` wrote to ``trained`` merged into plain weights."""
    full = fetch(trained) / FULL
    model = load_model(full if full.exists() else base, dtype)
    # Written before merging: the adapter may adapt the new token embeddings, too.
    if (trained / _EMBEDDINGS_FILE).exists():
        write_embeddings(load_file(trained / _EMBEDDINGS_FILE), model, new_token_ids)
    if (trained / _ADAPTER).exists():
        from peft import PeftModel  # noqa: PLC0415  seconds to import

        adapted: Any = PeftModel.from_pretrained(model, trained / _ADAPTER)
        return adapted.merge_and_unload(safe_merge=True)
    return model
