"""What a benchmark ran on, and where its results lie."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
_DRIVER = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
_LIBRARIES = ("torch", "transformers", "peft", "deepspeed")


def machine() -> dict[str, Any]:
    """What it ran on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = round(psutil.virtual_memory().total / 2**30, 1)
    return {"cpu": next(iter(names), ""), "cores": os.cpu_count(), "memory_gib": memory, "python": platform.python_version()}


def machine_with_gpu(device: str) -> dict[str, Any]:
    """The same with the versions of the libraries that compute, and with the first GPU where ``device`` is cuda."""
    import torch

    versions = {name: _find_version(name) for name in _LIBRARIES}
    if device == "cpu":
        return machine() | versions
    gpu: Any = torch.cuda.get_device_properties(0)
    memory = round(gpu.total_memory / 2**30, 1)
    return machine() | versions | {"gpu": gpu.name, "gpu_gib": memory, "driver": _read_driver(), "cuda": torch.version.cuda}


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read_driver() -> str:
    """The driver's version; empty where the tool that knows it is missing."""
    if shutil.which(_DRIVER[0]) is None:
        return ""
    lines = subprocess.run(_DRIVER, capture_output=True, text=True, check=False).stdout.splitlines()
    return next(iter(lines), "").strip()
