"""A process that measures named cases one after the other, and the clock and the memory of the device that it measures.

It prints a line of JSON for each case on its standard output. It may end before the last case, to leave the rest to a fresh process.
"""

import argparse
import contextlib
import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import torch

from delia_ray.core.errors import UserError

DEVICES = ("cuda", "cpu")
_MAX_LEFT_GIB = 1.0
"""Memory that a case may leave behind on a GPU; with more, the next case gets a process of its own."""

Figures = dict[str, Any]
Measure = Callable[[str, torch.device], Figures]
"""(name of a case, device) -> its figures; their ``outcome`` is ``measured`` unless they say another."""


def run_cases(measure: Measure, is_last: Callable[[str], bool] = lambda _: False) -> None:
    """Measure the cases that the command line names (``--device DEVICE CASE...``).

    Args:
        is_last: whether a case changes the process for good, so that no other may follow in it.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=DEVICES, required=True)
    parser.add_argument("cases", nargs="+")
    args = parser.parse_args()
    try:
        device = open_device(args.device)
    except UserError as error:
        parser.error(str(error))
    for case in args.cases:
        began, ends = time.perf_counter(), is_last(case)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # libraries print, too
                figures = {"outcome": "measured"} | measure(case, device)
        except torch.OutOfMemoryError:
            figures, ends = {"outcome": "does not fit", "reached_gib": get_peak_gib(device), "of_gib": get_total_gib(device)}, True
        print(json.dumps({"case": case, **figures, "seconds": round(time.perf_counter() - began, 1)}), flush=True)
        if ends or _free_memory(device) > _MAX_LEFT_GIB:
            return


def open_device(name: str) -> torch.device:
    """Return the device called ``name``.

    Raises:
        UserError: there is no such device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device: cuda needs a GPU, and torch sees none; check nvidia-smi and torch.version.cuda, or use cpu")
    return torch.device(name, 0) if name == "cuda" else torch.device(name)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_calls(function: Callable[[], Any], device: torch.device, repeats: int) -> Sequence[float]:
    """Seconds of each of ``repeats`` calls, in order."""
    seconds: list[float] = []
    for _ in range(repeats):
        synchronize(device)
        began = time.perf_counter()
        function()
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    return seconds


def reset_peak(device: torch.device) -> None:
    """Begin to count the device's peak memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def get_peak_gib(device: torch.device) -> float | None:
    """Most memory that tensors took since ``reset_peak``, in GiB; None on a CPU, where torch does not count it."""
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2) if device.type == "cuda" else None


def get_total_gib(device: torch.device) -> float:
    """Memory of the device, in GiB."""
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else psutil.virtual_memory().total
    return round(total / 2**30, 1)


def _free_memory(device: torch.device) -> float:
    """Free what no one holds, and return how much memory is still held on a GPU, in GiB."""
    gc.collect()
    if device.type != "cuda":
        return 0.0
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated(device) / 2**30
