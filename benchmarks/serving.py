"""Time to the first token and requests a second over HTTP, against vLLM's own server and ``ray.serve.llm``.

    python -m benchmarks.serving [--rounds 3] [--only servers|small|arms]

Writes ``results/serving.json``: ratios are ours / theirs and ``*_ttft_ms`` ours - theirs, turn by turn, with 1 and 16 requests in
flight. Writes ``results/arms.json``: several arms as adapters on one engine / merged, with an engine each.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arms import RANK
from benchmarks.paired import Way, in_turns, median, ratio, report
from benchmarks.servers import ANSWER_TOKENS, PROMPT_TOKENS, REQUESTS, SERVERS, WARM_REQUESTS, build_kwargs
from delia_ray.models.exported import ADAPTER, MERGED

HAPROXY = ("RAY_SERVE_ENABLE_HA_PROXY=1", "RAY_SERVE_THROUGHPUT_OPTIMIZED=1")
"""Ray Serve's variables with which HAProxy takes requests to the replica without a hop in Python."""
ARMS = [(MERGED, 1), (MERGED, 3), (ADAPTER, 1), (ADAPTER, 3), (ADAPTER, 8)]
"""Forms, and how many."""


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


def compare_servers(rounds: int, log: Path) -> None:
    """Ours, also behind HAProxy, vLLM's and Ray's, with the same model."""
    ways = {name: Way(name, [sys.executable, "-m", "benchmarks.servers", name]) for name in SERVERS}
    ways["ours_haproxy"] = Way("ours_haproxy", ["env", *HAPROXY, *ways["ours"].command])
    in_turns(list(ways.values()), rounds, log)
    pairs = {
        "vllm": ("ours", "vllm"),
        "haproxy_vllm": ("ours_haproxy", "vllm"),
        "ray_serve_llm": ("ours", "ray_serve_llm"),
        "vllm_itself": ("vllm_again", "vllm"),
    }
    _report(ways, pairs)


def compare_small(rounds: int, log: Path) -> None:
    """Ours and vLLM's, with a model that has next to nothing to do."""
    command = [sys.executable, "-m", "benchmarks.servers", "--small"]
    ways = {f"{name}_small": Way(f"{name}_small", [*command, name]) for name in ("ours", "vllm")}
    ways["ours_haproxy_small"] = Way("ours_haproxy_small", ["env", *HAPROXY, *command, "ours"])
    in_turns(list(ways.values()), rounds, log)
    _report(ways, {"small_vllm": ("ours_small", "vllm_small"), "small_haproxy_vllm": ("ours_haproxy_small", "vllm_small")})


def _report(ways: dict[str, Way], pairs: dict[str, tuple[str, str]]) -> None:
    ratios: dict[str, dict[str, Any]] = {}
    for name, (us, them) in pairs.items():
        ratios |= compare(ways[us], ways[them], name)
    found: dict[str, Any] = {
        **_describe_load(),
        "engine": build_kwargs(),
        "ready_s": {way.name: [round(turn["ready_s"], 1) for turn in way.said] for way in ways.values()},
        "ttft_ms": {way.name: [round(each, 1) for each in streamed(way, "1", "ttft_ms")] for way in ways.values()},
        "requests_per_second": {way.name: [round(each, 2) for each in whole(way, "16")] for way in ways.values()},
        "peak_gib": {way.name: round(way.peak_gib, 2) for way in ways.values()},
    }
    report("serving", ratios, found)


def _describe_load() -> dict[str, Any]:
    load = {"prompt_tokens": PROMPT_TOKENS, "answer_tokens": ANSWER_TOKENS, "warm_up": WARM_REQUESTS, "requests": REQUESTS}
    return {"load": load, "precision": build_kwargs()["dtype"]}


def compare_arms(rounds: int, log: Path) -> None:
    """Arms as adapters on one engine, against merged models with an engine each."""
    ways = {f"{form}_{count}": Way(f"{form}_{count}", [sys.executable, "-m", "benchmarks.arms", form, str(count)]) for form, count in ARMS}
    in_turns(list(ways.values()), rounds, log)

    def rates(way: str, in_flight: str) -> list[float]:
        return [turn["requests_per_second"][in_flight] for turn in ways[way].said]

    pairs = [(us, them) for us in ways for them in ways if us.startswith(ADAPTER) and them.startswith(MERGED)]
    ratios = {f"{us}_to_{them}_{count}": ratio(rates(us, count), rates(them, count)) for us, them in pairs for count in REQUESTS}
    found: dict[str, Any] = {
        **_describe_load(),
        "rank": RANK,
        "ready_s": {name: [round(turn["ready_s"], 1) for turn in way.said] for name, way in ways.items()},
        "tokens_per_second": {
            name: {count: [round(each * ANSWER_TOKENS, 1) for each in rates(name, count)] for count in REQUESTS} for name in ways
        },
        "peak_gib": {name: round(way.peak_gib, 2) for name, way in ways.items()},
    }
    report("arms", ratios, found)


COMPARISONS = {"servers": compare_servers, "small": compare_small, "arms": compare_arms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=COMPARISONS)
    args = parser.parse_args()
    log = Path(tempfile.mkdtemp(prefix="bench-")) / "log"
    print(f"log: {log}", file=sys.stderr)
    for name, compare_all in COMPARISONS.items():
        if args.only in (None, name):
            compare_all(args.rounds, log)


if __name__ == "__main__":
    main()
