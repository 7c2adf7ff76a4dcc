"""In which precision a run computes: decided once, the same for every arm."""

import json
import os
import timeit
from functools import cache
from pathlib import Path
from typing import Any


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


def run_precision(record: Path, asked: str, *, on_gpus: bool) -> str:
    """The precision of a run: what the settings say, or else what was decided when the run began.

    Every process of a run, on whatever machine, then trains, stores and serves alike, and no arm is rounded otherwise than another.

    Args:
        record: where the decision is kept.
        asked: ``auto``, or the precision itself.
        on_gpus: models run on GPUs: bfloat16 is taken there, since this machine may have none to ask.
    """
    if asked != "auto":
        return asked
    if record.exists():
        return json.loads(record.read_text())["precision"]
    decided = "bfloat16" if on_gpus else str(resolve_dtype("auto")).removeprefix("torch.")
    record.parent.mkdir(parents=True, exist_ok=True)
    scratch = record.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps({"precision": decided}) + "\n")
    os.replace(scratch, record)
    return decided
