"""Answer tokens a second, against the engine alone and against ``ray.data.llm``.

    python -m benchmarks.synthesis [--rounds 5]

Writes ``results/synthesis.json``. Each ratio is ours / theirs, turn by turn.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.generators import ANSWER_TOKENS, PARTS, ROWS, WARM_ROWS
from benchmarks.paired import Way, in_turns, ratio, report
from delia_ray.models import resolve_dtype
from delia_ray.placement import ActorPool, Engine


def generator(arm: str) -> Way:
    return Way(arm, [sys.executable, "-m", "benchmarks.generators", arm])


def rates(way: Way, part: str) -> list[float]:
    return [turn["rates"][part] for turn in way.said]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    log = Path(tempfile.mkdtemp(prefix="bench-")) / "log"
    print(f"log: {log}", file=sys.stderr)
    settings = [generator("ray_data_llm"), generator("ray_data_llm_tokenizing")]
    in_turns(settings, 1, log)
    tuned = generator(max(settings, key=lambda way: way.rates[0]).name)
    engine, us = generator("vllm"), generator("ours")
    in_turns([engine, us, tuned], args.rounds, log)
    ratios = {
        "vllm_greedy": ratio(rates(us, "greedy"), rates(engine, "greedy")),
        "vllm_temperature": ratio(rates(us, "temperature"), rates(engine, "temperature")),
        "vllm_top_p": ratio(rates(us, "top_p"), rates(engine, "top_p")),
        "vllm_top_p_seeded": ratio(rates(us, "top_p"), rates(engine, "top_p_seeded")),
        "ray_data_llm": ratio(rates(us, "greedy"), rates(tuned, "greedy")),
        "cached": ratio(rates(us, "cached"), rates(us, "greedy")),
        "vllm_against_itself": ratio(rates(engine, "greedy_again"), rates(engine, "greedy")),
    }
    ways = (engine, us, tuned)
    found: dict[str, Any] = {
        "rows": {"warm_up": WARM_ROWS, "timed": ROWS, "answer_tokens": ANSWER_TOKENS},
        "sampling": PARTS,
        "precision": str(resolve_dtype("auto")),
        "engine": Engine().model_dump(mode="json"),
        "pool": ActorPool().model_dump(mode="json"),
        "ray_data_llm": tuned.name,
        "tokens_per_second": {
            way.name: {part: [round(each, 1) for each in rates(way, part)] for part in way.said[0]["rates"]} for way in ways
        },
        "peak_gib": {way.name: round(way.peak_gib, 2) for way in ways},
    }
    report("synthesis", ratios, found)


if __name__ == "__main__":
    main()
