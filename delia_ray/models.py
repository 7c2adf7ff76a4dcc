"""Models as folders: find one, load one, give it new tokens, save it whole."""

import os
import timeit
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, assert_never

import platformdirs

from delia_ray import builtin
from delia_ray.artifacts import Adopted
from delia_ray.errors import UserError
from delia_ray.fingerprint import fingerprint, hash_file
from delia_ray.tasks.config import CopyInit, DescriptionInit, MeanInit, NoiseInit, TokenInit

_WEIGHTS = "*.safetensors"
_WANTED = ("*.json", "*.jinja", "*.txt", "*.model", _WEIGHTS)


def adopt_model(name: str, key: str = "model") -> Adopted:
    """The folder behind ``name`` and the hash of its weights, configuration and tokenizer.

    Args:
        name: ``builtin:smollm2-135m-instruct``, a folder, or a hub id ``owner/name[@revision]``.
        key: the setting that gave it, for messages.

    Raises:
        UserError: nothing is there, or a part that tuning needs is missing.
    """
    folder = _find(name, key)
    if not (folder / "config.json").exists():
        raise UserError(f"{key}: {folder} has no config.json; name a Hugging Face model folder")
    if not any((folder / file).exists() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(f"{key}: {folder} has no tokenizer; save one into it with tokenizer.save_pretrained")
    weights = sorted(folder.glob(_WEIGHTS))
    if not weights:
        raise UserError(f"{key}: {folder} has no *.safetensors; convert the weights with save_pretrained(safe_serialization=True)")
    files = sorted({file for pattern in _WANTED for file in folder.glob(pattern)})
    return Adopted(folder, fingerprint({file.name: hash_file(file) for file in files}))


def _find(name: str, key: str) -> Path:
    if name.startswith("builtin:"):
        if name != builtin.NAME:
            raise UserError(f"{key}: {name!r} is not built in; the one built-in model is {builtin.NAME}")
        return builtin.unpack(Path(os.environ.get("DELIA_CACHE", platformdirs.user_cache_dir("delia_ray"))))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    owner_and_name = name.partition("@")[0]
    if name.startswith((".", "/", "~")) or owner_and_name.count("/") != 1:
        raise UserError(f"{key}: there is no folder {name}; name a folder, a hub id such as owner/name, or {builtin.NAME}")
    return _download(name, key)


def _download(name: str, key: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  only hub models need it
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(_WANTED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{key}: {name} cannot be had from the hub ({reason}); check the name and the network, or name a folder") from None


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder; never runs code from it."""
    from transformers import AutoTokenizer  # noqa: PLC0415  seconds to import

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"model: {folder} has no usable tokenizer ({str(error).splitlines()[0]}); save one with tokenizer.save_pretrained"
        ) from None


def load_model(folder: Path, dtype: Any) -> Any:
    """The causal language model of a folder, from safetensors only; never runs code from it."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415  seconds to import

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, attn_implementation="sdpa"
    )


def load_encoder(folder: Path, dtype: Any) -> Any:
    """The model of a folder without its head, which gives hidden states; never runs code from it."""
    from transformers import AutoModel  # noqa: PLC0415  seconds to import

    return AutoModel.from_pretrained(folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, attn_implementation="sdpa")


def resolve_dtype(precision: str) -> Any:
    """The torch dtype of ``auto | float32 | bfloat16 | float16``; auto is bfloat16 where it is multiplied natively and faster."""
    import torch  # noqa: PLC0415  seconds to import

    if precision != "auto":
        return getattr(torch, precision)
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    able = torch.cpu.get_capabilities()
    # With AVX-512 alone, bfloat16 has twice the speed of float32 on some processors, and half of it on others.
    native = able.get("amx_bf16") or (able.get("avx512_bf16") and product_seconds(torch.bfloat16) < product_seconds(torch.float32))
    return torch.bfloat16 if native else torch.float32


@cache
def product_seconds(dtype: Any, size: int = 512, tries: int = 10) -> float:
    """The shortest time of a square matrix product on the CPU."""
    import torch  # noqa: PLC0415  seconds to import

    square = torch.ones(size, size, dtype=dtype)
    return min(timeit.repeat(lambda: torch.mm(square, square), number=1, repeat=tries))


def token_ids(tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    """Vocabulary ids of whole tokens, each of which must be one."""
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


def extend(folder: Path, tokens: Sequence[str], init: TokenInit, multiple: int, out: Path) -> None:
    """Save the model of ``folder`` to ``out`` with ``tokens`` as new special tokens.

    Only the new rows are written: of the input embedding, and of the output embedding where it is not tied. Rows that pad the
    vocabulary already are used before the table grows. It grows to a multiple of ``multiple`` rows; rows that only pad it are
    the mean of the known ones, where no model looks for a meaning.

    Raises:
        UserError: a token is in the vocabulary already, or the one to copy is not.
    """
    import torch  # noqa: PLC0415  seconds to import

    tokenizer, model = load_tokenizer(folder), load_model(folder, torch.float32)
    for token in tokens:
        if token in tokenizer.get_vocab():
            raise UserError(f"task.token: {token!r} is already in the vocabulary of {folder}; choose a new one")
    if isinstance(init, CopyInit) and init.token not in tokenizer.get_vocab():
        raise UserError(f"task.token_init.token: {init.token!r} is not in the vocabulary of {folder}; name one of its tokens whole")
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    ids = token_ids(tokenizer, tokens)
    old_rows: int = model.get_input_embeddings().num_embeddings
    known = min(old_rows, len(tokenizer) - len(tokens))
    rows = -(-max(len(tokenizer), old_rows) // multiple) * multiple
    if rows > old_rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    tables = {id(layer.weight): layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())}
    with torch.no_grad():
        for table in tables.values():
            table[old_rows:] = table[:known].mean(0)
            table[ids] = first_rows(table[:known], len(ids), init, tokenizer)
    save_whole(model, tokenizer, out)


def first_rows(known_VD: Any, count: int, init: TokenInit, tokenizer: Any) -> Any:
    """[count, D] start values for new rows, from the rows the model has."""
    import torch  # noqa: PLC0415  seconds to import

    match init:
        case MeanInit():
            return known_VD.mean(0).expand(count, -1)
        case NoiseInit(seed=seed):
            noise_ND = torch.randn(count, known_VD.shape[1], generator=torch.Generator().manual_seed(seed))
            return known_VD.mean(0) + noise_ND * known_VD.std(0)
        case DescriptionInit(text=text):
            return known_VD[tokenizer(text, add_special_tokens=False)["input_ids"]].mean(0).expand(count, -1)
        case CopyInit(token=token):
            return known_VD[[tokenizer.convert_tokens_to_ids(token)]].expand(count, -1)
        case _:
            assert_never(init)


def save_whole(model: Any, tokenizer: Any, out: Path) -> None:
    """A folder that every consumer reads alike: weights, tokenizer, chat template, and when to stop."""
    model.generation_config.eos_token_id = _stop_ids(model, tokenizer)
    model.generation_config.do_sample = False
    for knob in ("temperature", "top_p", "top_k"):
        setattr(model.generation_config, knob, None)
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)


def _stop_ids(model: Any, tokenizer: Any) -> list[int]:
    declared = model.generation_config.eos_token_id
    known: list[int] = declared if isinstance(declared, list) else [] if declared is None else [declared]
    return sorted({*known, tokenizer.eos_token_id})
