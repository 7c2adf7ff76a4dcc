"""Precision of a run: resolved once, equal for all arms."""

import json
import os
import timeit
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from delia_ray.core.storage.transfer import fetch, publish


def resolve_dtype(precision: str) -> Any:
    """Return the torch dtype of ``auto | float32 | bfloat16 | float16``; auto is bfloat16 if the hardware has it and it is faster."""
    import torch  # noqa: PLC0415  seconds to import

    if precision != "auto":
        return getattr(torch, precision)
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    capabilities = torch.cpu.get_capabilities()
    # With AVX-512 alone, bfloat16 has twice the speed of float32 on some processors, and half of it on others.
    is_native = capabilities.get("amx_bf16") or (
        capabilities.get("avx512_bf16") and time_matmul(torch.bfloat16) < time_matmul(torch.float32)
    )
    return torch.bfloat16 if is_native else torch.float32


@cache
def time_matmul(dtype: Any, size: int = 512, tries: int = 10) -> float:
    """Return the shortest time of a square matrix product on the CPU, in seconds."""
    import torch  # noqa: PLC0415  seconds to import

    square = torch.ones(size, size, dtype=dtype)
    return min(timeit.repeat(lambda: torch.mm(square, square), number=1, repeat=tries))


def choose_precision() -> str:
    """Return the faster of the precisions that this machine has."""
    return str(resolve_dtype("auto")).removeprefix("torch.")


def resolve_run_precision(record: Path, precision: str, choose: Callable[[], str]) -> str:
    """Return the precision of a run: the configured one, or for ``auto`` the one that was chosen when the run began.

    All processes of a run, on all machines, then train, store and serve in the same precision, so that all arms are rounded equally.

    Args:
        record: JSON file that stores the choice.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        choose: chooses for ``auto``, by a machine that computes.
    """
    if precision != "auto":
        return precision
    if fetch(record).exists():
        return json.loads(record.read_text())["precision"]
    chosen = choose()
    record.parent.mkdir(parents=True, exist_ok=True)
    scratch = record.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps({"precision": chosen}) + "\n")
    os.replace(scratch, record)
    publish(record)
    return chosen
