"""Load models and tokenizers from folders, without ``trust_remote_code``."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from delia_ray.core.errors import UserError
from delia_ray.core.storage.transfer import fetch
from delia_ray.models.folders import ModelFolder, is_no_weight
from delia_ray.models.template import set_template_arguments


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a model folder.

    Raises:
        UserError: the folder has no usable tokenizer.
    """
    fetch(folder, is_no_weight)
    from transformers import AutoTokenizer  # noqa: PLC0415  seconds to import

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"model: {folder} has no usable tokenizer ({str(error).splitlines()[0]}); save one with tokenizer.save_pretrained"
        ) from None
    if tokenizer.is_fast:  # a tokenizer that was saved after a call with padding or truncation keeps both in its file
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    return tokenizer


@lru_cache(maxsize=4)
def get_tokenizer(model: ModelFolder) -> Any:
    """Return the tokenizer of a model with the run's chat template arguments. Cached for each process; must not be modified."""
    tokenizer = load_tokenizer(model.path)
    set_template_arguments(tokenizer, dict(model.template_arguments))
    return tokenizer


def load_model(folder: Path, dtype: Any) -> Any:
    """Load the causal language model of a folder, from safetensors only, with transformers' default attention for its architecture.

    Args:
        dtype: a torch dtype, or ``"auto"`` for the dtype of the stored weights.

    Raises:
        UserError: transformers does not support the architecture.
    """
    fetch(folder)
    from transformers import AutoModelForCausalLM  # noqa: PLC0415  seconds to import

    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, trust_remote_code=False)
    except (ValueError, KeyError) as error:
        raise UserError(
            f"model: {folder} cannot be loaded by transformers ({' '.join(str(error).split())[:300]}); use another model"
        ) from None


def load_encoder(folder: Path, dtype: Any) -> Any:
    """Load the model of a folder without its head; it returns hidden states."""
    fetch(folder)
    from transformers import AutoModel  # noqa: PLC0415  seconds to import

    return AutoModel.from_pretrained(folder, dtype=dtype, use_safetensors=True, trust_remote_code=False)
