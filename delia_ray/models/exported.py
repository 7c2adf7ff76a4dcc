"""The forms of an exported model, and the certificate of each: how its answers in vLLM compare with those in transformers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delia_ray.core.artifacts import Artifact
from delia_ray.core.storage.transfer import fetch

MERGED, ADAPTER = "merged", "adapter"
"""Forms; the second also names the folder of the adapter in the model's data."""
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""PEFT's names of the files in that folder."""
PARITY = "parity.json"
"""Form (``name_form``) -> its comparison with transformers, or ``reason``: why vLLM does not serve it."""


def name_form(form: str, quantization: str | None) -> str:
    """Name a form whose weights an engine quantizes when it loads them, or not."""
    return f"{form} {quantization}" if quantization else form


def read_rank(adapter: Path) -> int:
    """Read the rank of an adapter."""
    return json.loads(fetch(adapter / ADAPTER_CONFIG).read_text())["r"]


def read_parity(model: Artifact) -> Mapping[str, Any]:
    """Read how the forms of an exported model compare with transformers; empty for a model that is not exported, such as the base."""
    file = model.fetch(PARITY)
    return json.loads(file.read_text()) if file.exists() else {}
