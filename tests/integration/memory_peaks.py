"""Peaks of memory, as torch's profiler sees every allocation and release."""

import gc
import json
from collections.abc import Callable
from pathlib import Path

from torch.profiler import ProfilerActivity, profile


def measure_peak(run: Callable[[], object], scratch: Path) -> int:
    """Run ``run`` and return the largest sum of bytes that were allocated in it on the CPU and not released yet."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = run()
    profiler.export_chrome_trace(str(scratch / "trace.json"))
    del kept
    events = json.loads((scratch / "trace.json").read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    live = peak = 0
    for _, change in changes:
        live += change
        peak = max(peak, live)
    return peak
