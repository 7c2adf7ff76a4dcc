"""Time to the first token and requests a second over HTTP, against vLLM's own server and ``ray.serve.llm``.

    python -m benchmarks.serving [--rounds 3]

Writes ``results/serving.json``. Ratios are ours / theirs and ``*_ttft_ms`` ours - theirs, turn by turn, with 1 and 16 requests in
flight.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paired import Way, in_turns, median, ratio, report
from benchmarks.servers import ANSWER_TOKENS, PROMPT_TOKENS, REQUESTS, SERVERS, WARM_REQUESTS, build_kwargs


def whole(way: Way, in_flight: str) -> list[float]:
    return [turn["whole"][in_flight] for turn in way.said]


def streamed(way: Way, in_flight: str, what: str) -> list[float]:
    return [turn["streamed"][in_flight][what] for turn in way.said]


def difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Median of the paired differences ours - theirs."""
    return median(np.array(ours) - np.array(theirs))


def compare(us: Way, other: Way, name: str) -> dict[str, dict[str, Any]]:
    found = {f"{name}_whole_16": ratio(whole(us, "16"), whole(other, "16"))}
    for count in REQUESTS:
        rates = (streamed(way, count, "requests_per_second") for way in (us, other))
        found[f"{name}_streamed_{count}"] = ratio(*rates)
        found[f"{name}_ttft_ms_{count}"] = difference(streamed(us, count, "ttft_ms"), streamed(other, count, "ttft_ms"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    log = Path(tempfile.mkdtemp(prefix="bench-")) / "log"
    print(f"log: {log}", file=sys.stderr)
    ways = {name: Way(name, [sys.executable, "-m", "benchmarks.servers", name]) for name in SERVERS}
    in_turns(list(ways.values()), args.rounds, log)
    us, vllm = ways["ours"], ways["vllm"]
    ratios = (
        compare(us, vllm, "vllm") | compare(us, ways["ray_serve_llm"], "ray_serve_llm") | compare(ways["vllm_again"], vllm, "vllm_itself")
    )
    found: dict[str, Any] = {
        "load": {"prompt_tokens": PROMPT_TOKENS, "answer_tokens": ANSWER_TOKENS, "warm_up": WARM_REQUESTS, "requests": REQUESTS},
        "precision": build_kwargs()["dtype"],
        "engine": build_kwargs(),
        "ready_s": {way.name: [round(turn["ready_s"], 1) for turn in way.said] for way in ways.values()},
        "ttft_ms": {way.name: [round(each, 1) for each in streamed(way, "1", "ttft_ms")] for way in ways.values()},
        "requests_per_second": {way.name: [round(each, 2) for each in whole(way, "16")] for way in ways.values()},
        "peak_gib": {way.name: round(way.peak_gib, 2) for way in ways.values()},
    }
    report("serving", ratios, found)


if __name__ == "__main__":
    main()
