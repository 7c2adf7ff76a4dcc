"""Supervised tokens a second, and rows tokenised a second, against what a user would otherwise pick.

    python -m benchmarks.training [--rounds 5] [--only alone paired preparing full large ledger]

Writes ``results/training.json``. Each ratio is ours / theirs, turn by turn; ``matmul_peak_share`` and ``ledger_cost`` are shares.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.inputs import FULL_STEPS, LARGE_STEPS, STEPS, WARM_STEPS, demo
from benchmarks.paired import Way, in_turns, median, ratio, report
from benchmarks.preparing import FEW, MANY, write_mixture
from delia_ray.models import resolve_dtype

Found = tuple[dict[str, dict[str, Any]], list[Way]]


def trainer(arm: str, *flags: str) -> Way:
    return Way("_".join([arm, *(flag.strip("-") for flag in flags)]), [sys.executable, "-m", "benchmarks.trainers", arm, *flags])


def alone(rounds: int, log: Path) -> Found:
    """Ours with one worker, a plain loop (twice, to see how quiet the machine is), accelerate.

    ``bare`` is a loop around our own sums: what is left between it and ours is the system's cost.
    """
    ways = us, plain, bare, accelerate, again = [trainer(arm) for arm in ("ours", "plain", "bare", "accelerate", "plain")]
    again.name = "plain_again"
    in_turns(ways, rounds, log)
    found = {
        "plain": ratio(us.rates, plain.rates),
        "bare": ratio(us.rates, bare.rates),
        "accelerate": ratio(us.rates, accelerate.rates),
        "plain_against_itself": ratio(plain.rates, again.rates),
        "matmul_peak_share": median([turn["matmul_peak_share"] for turn in us.said]),
    }
    return found, ways


def paired(rounds: int, log: Path) -> Found:
    """Ours with two workers, both loops under torchrun, and TRL at two settings, of which the faster one counts."""
    ways = us, plain, bare, pure, autocast = [
        trainer("ours_2"),
        launched("torchrun_2", "plain"),
        launched("bare_2", "bare"),
        trainer("trl_pure"),
        trainer("trl_autocast"),
    ]
    in_turns(ways, rounds, log)
    trl = {way.name: ratio(us.rates, way.rates) for way in (pure, autocast)}
    found = {
        "torchrun_2": ratio(us.rates, plain.rates),
        "bare_2": ratio(us.rates, bare.rates),
        "trl": min(trl.values(), key=lambda each: each["median"]),
        "matmul_peak_share_2": median([turn["matmul_peak_share"] for turn in us.said]),
    }
    return found | trl, ways


def launched(name: str, arm: str) -> Way:
    """``arm`` in two processes under torchrun."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "benchmarks.trainers", arm]
    return Way(name, [sys.executable, *launch])


def preparing(rounds: int, log: Path) -> Found:
    """Tokenising."""
    many, few = log.parent / "many", log.parent / "few"
    write_mixture(demo(), MANY, many)
    write_mixture(demo(), FEW, few)
    command = [sys.executable, "-m", "benchmarks.preparing"]
    us, theirs = (Way(f"prepare_{arm}", [*command, arm, str(many), str(few)]) for arm in ("ours", "datasets"))
    in_turns([us, theirs], rounds, log)
    return {"prepare": ratio(us.rates, theirs.rates)}, [us, theirs]


def full(rounds: int, log: Path) -> Found:
    """Every weight trained."""
    us = trainer("ours", "--full")
    in_turns([us], min(rounds, 3), log)
    return {"matmul_peak_share_full": median([turn["matmul_peak_share"] for turn in us.said])}, [us]


def large(rounds: int, log: Path) -> Found:
    """Steps of sixteen times the demo's rows, two workers: what share of the peak is reached where each has a pack of 4,000 tokens."""
    flags = ("--rows", "128", "--pack-tokens", "8192")
    ways = adapter, every = trainer("ours_2", *flags), trainer("ours_2", *flags, "--full")
    in_turns(ways, min(rounds, 3), log)
    return {
        "matmul_peak_share_large": median([turn["matmul_peak_share"] for turn in adapter.said]),
        "matmul_peak_share_large_full": median([turn["matmul_peak_share"] for turn in every.said]),
    }, list(ways)


def ledger(rounds: int, log: Path) -> Found:
    """What the ledger takes of a step."""
    adapter, every = trainer("ledger"), trainer("ledger", "--full")
    in_turns([adapter, every], 1, log)
    return {"ledger_cost": median(adapter.said[0]["shares"]), "ledger_cost_full": median(every.said[0]["shares"])}, []


PARTS: dict[str, Callable[[int, Path], Found]] = {
    "alone": alone,
    "paired": paired,
    "preparing": preparing,
    "full": full,
    "large": large,
    "ledger": ledger,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    given = demo()
    log = Path(tempfile.mkdtemp(prefix="bench-")) / "log"
    print(f"log: {log}", file=sys.stderr)
    settings: dict[str, Any] = {
        "finetune": given.config.model_dump(mode="json"),
        "precision": str(resolve_dtype("auto")),
        "steps": {"warm_up": WARM_STEPS, "timed": STEPS, "timed_full": FULL_STEPS, "timed_large": LARGE_STEPS},
        "torch_threads": torch.get_num_threads(),
        "peak_gib": {},
        "rates": {},
    }
    for part in args.only:
        ratios, ways = PARTS[part](args.rounds, log)
        settings["peak_gib"] |= {way.name: round(way.peak_gib, 2) for way in ways}
        settings["rates"] |= {way.name: [round(rate, 1) for rate in way.rates] for way in ways}
        report("training", ratios, settings)


if __name__ == "__main__":
    main()
