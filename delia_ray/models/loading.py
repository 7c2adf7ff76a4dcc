"""Load a model or its tokenizer from a folder; never runs code from it."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from delia_ray.errors import UserError
from delia_ray.models.folders import ModelFolder
from delia_ray.models.template import set_arguments


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder.

    Raises:
        UserError: there is none that can be used.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415  seconds to import

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"model: {folder} has no usable tokenizer ({str(error).splitlines()[0]}); save one with tokenizer.save_pretrained"
        ) from None
    if tokenizer.is_fast:  # a call with padding or truncation before it was saved leaves both in its file
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    return tokenizer


@lru_cache(maxsize=4)
def tokenizer_of(model: ModelFolder) -> Any:
    """The tokenizer of an adopted model, its chat template asked as the run asks it. Loaded once a process; not to be changed."""
    tokenizer = load_tokenizer(model.path)
    set_arguments(tokenizer, dict(model.template_arguments))
    return tokenizer


def load_model(folder: Path, dtype: Any) -> Any:
    """The causal language model of a folder, from safetensors only, with the attention that transformers chooses for its architecture.

    Args:
        dtype: a torch dtype, or ``"auto"`` for the one the weights are stored in.

    Raises:
        UserError: transformers knows no such architecture.
    """
    from transformers import AutoModelForCausalLM  # noqa: PLC0415  seconds to import

    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True, trust_remote_code=False)
    except (ValueError, KeyError) as error:
        raise UserError(
            f"model: {folder} cannot be loaded by transformers ({' '.join(str(error).split())[:300]}); use another model"
        ) from None


def load_encoder(folder: Path, dtype: Any) -> Any:
    """The model of a folder without its head, which gives hidden states."""
    from transformers import AutoModel  # noqa: PLC0415  seconds to import

    return AutoModel.from_pretrained(folder, dtype=dtype, use_safetensors=True, trust_remote_code=False)
