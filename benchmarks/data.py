"""Rows a second through deduplication and through the shuffle, against what a user would otherwise pick.

    python -m benchmarks.data [--rounds 5] [--only datasketch shuffle] [--sizes 10k 100k 1m]

Writes ``results/data.json``. Each ratio is ours / theirs, turn by turn; larger sizes take fewer turns. ``driver_rss_1m_over_100k``
is how much more memory our driver took for ten times the rows.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import deduping, shuffling
from benchmarks.paired import Way, in_turns, median, ratio, report
from delia_ray.mixing.config import Deduplicate

SIZES = {"10k": (10_000, 5), "100k": (100_000, 3), "1m": (1_000_000, 1)}
"""Rows, and most pairs of turns."""


def ways(module: str, arms: Sequence[str], suffix: str, many: Path, few: Path) -> list[Way]:
    return [Way(f"{arm}{suffix}", [sys.executable, "-m", f"benchmarks.{module}", arm, str(many), str(few)]) for arm in arms]


def rates(turned: Sequence[Way]) -> dict[str, dict[str, Any]]:
    return {
        "peak_gib": {way.name: round(way.peak_gib, 2) for way in turned},
        "rates": {way.name: [round(rate, 1) for rate in way.rates] for way in turned},
    }


def deduplicate(rounds: int, sizes: Sequence[str], scratch: Path) -> None:
    """Planted near-duplicates in corpora of three sizes."""
    few = scratch / "few.parquet"
    deduping.write_corpus(deduping.FEW, few)
    driver: dict[str, float] = {}
    for size in sizes:
        rows, most = SIZES[size]
        corpus = scratch / f"{size}.parquet"
        deduping.write_corpus(rows, corpus)
        us, theirs = turned = ways("deduping", ("ours", "datasketch"), f"_{size}", corpus, few)
        in_turns(turned, min(rounds, most), scratch / "log")
        driver[size] = float(np.median([turn["driver_mib"] for turn in us.said]))
        settings = rates(turned) | {"deduplicate": Deduplicate().model_dump(mode="json")}
        for found in ("recall", "precision", "cold_seconds", "driver_mib"):
            settings[found] = {way.name: round(min(way.said, key=lambda turn: turn[found])[found], 4) for way in turned}
        report("data", {f"datasketch_{size}": ratio(us.rates, theirs.rates)}, settings)
    if {"100k", "1m"} <= driver.keys():
        report("data", {"driver_rss_1m_over_100k": median([driver["1m"] / driver["100k"]])}, {})


def shuffle(rounds: int, _: Sequence[str], scratch: Path) -> None:
    """The shuffle, and that its order is the same at any number of blocks."""
    many, few = scratch / "many", scratch / "few"
    shuffling.write_examples(shuffling.MANY, many)
    shuffling.write_examples(shuffling.FEW, few)
    us, theirs = turned = ways("shuffling", ("ours", "numpy"), "_shuffle", many, few)
    in_turns(turned, rounds, scratch / "log")
    (blocks,) = ways("shuffling", ("blocks",), "", many, few)
    blocks.turn(scratch / "log")
    order: dict[str, str] = blocks.said[0]["order"]
    if len(set(order.values())) != 1:
        raise RuntimeError(f"the order depends on the number of blocks: {order}")
    report("data", {"shuffle": ratio(us.rates, theirs.rates)}, rates(turned) | {"order_by_blocks": order})


PARTS = {"datasketch": deduplicate, "shuffle": shuffle}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    args = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="bench-"))
    print(f"logs: {scratch}/*/log", file=sys.stderr)
    for part in args.only:
        (scratch / part).mkdir()
        PARTS[part](args.rounds, args.sizes, scratch / part)
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
