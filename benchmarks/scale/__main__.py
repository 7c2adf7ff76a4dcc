"""What limits synthesis at scale: measured with engines that only wait, and simulated from what was measured.

    python -m benchmarks.scale [engines growth indexes simulation] [--rounds 3]

Writes ``results/scale.json`` and ``docs/scale.png``. A part that is not named keeps its results.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize

from benchmarks.machine import RESULTS, machine
from benchmarks.paired import ratio
from benchmarks.scale.indexes import write_filtered, write_keys
from benchmarks.scale.plan import BATCH_ROWS, draw_figure, plan_generations
from benchmarks.scale.watch import DRIVER, HeadWatch

RESULT = RESULTS / "scale.json"
ROWS_AN_ENGINE, BATCH_SECONDS = 8_192, 0.2
CASES: tuple[dict[str, int], ...] = (
    {"rows": 8_000, "engines": 2},
    {"rows": 8_000, "engines": 8},
    {"rows": 32_000, "engines": 2},
    {"rows": 32_000, "engines": 2, "batch-rows": 320},
    {"rows": 8_000, "engines": 2, "batch-rows": 4},
    {"rows": 200_000, "engines": 2, "batch-rows": 2_000},
    {"rows": 8_000, "engines": 2, "wave-rows": 2_000},
)
"""Rows, blocks and engines grow one by one; a block has the rows of a batch."""
KEYS = ((5_200_000, 2_000), (52_000_000, 20_000))
SPLIT_ROWS = (130_000, 520_000)


def run_turn(arguments: dict[str, Any], log: Path) -> dict[str, Any]:
    """Synthesize once in a process of its own; what it says, and what its head took."""
    words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    load = os.getloadavg()[0]
    with log.open("ab") as stream:
        command = [sys.executable, "-m", "benchmarks.scale.turn", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True) as process, HeadWatch(process.pid) as watch:
            output = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}; see {log}")
    said = json.loads([line for line in output.splitlines() if line.startswith("{")][-1])
    print(f"{' '.join(words)}: {said['work'] / said['seconds']:.0f} rows/s", file=sys.stderr, flush=True)
    return said | {"load_before": round(load, 1), "head": {name: role.summarize() for name, role in watch.roles.items()}}


def compare_engines(rounds: int, log: Path) -> dict[str, Any]:
    """Rows a second with one engine and with eight, in turns: 1 8, 8 1, 1 8, ...."""
    turns: list[dict[str, Any]] = []
    for number in range(rounds):
        for engines in (1, 8) if number % 2 == 0 else (8, 1):
            turns.append(run_turn({"rows": engines * ROWS_AN_ENGINE, "engines": engines, "batch-seconds": BATCH_SECONDS}, log))
    return summarize_engines(turns)


def summarize_engines(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rates, the ratio of eight engines to one, and the processor time of all processes."""
    said = {engines: [turn for turn in turns if turn["engines"] == engines] for engines in (1, 8)}
    rates = {engines: [turn["work"] / turn["seconds"] for turn in each] for engines, each in said.items()}
    cpu = {engines: [sum(role["cpu_seconds"] for role in turn["head"].values()) for turn in each] for engines, each in said.items()}
    loads = {engines: [turn["load_before"] for turn in each] for engines, each in said.items()}
    blocks = {engines: each[0]["blocks"] for engines, each in said.items()}
    return {"rows_per_second": rates, "ratio": ratio(rates[8], rates[1]), "blocks": blocks, "cpu_seconds": cpu, "load_before": loads}


def measure_growth(log: Path) -> dict[str, Any]:
    """What the head takes as rows, blocks and engines grow."""
    return summarize_growth([run_turn({"batch-rows": BATCH_ROWS} | case, log) for case in CASES])


def summarize_growth(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Fit what rows, blocks (a file of the cache each) and engines add; turns in waves are left out."""
    static = [turn for turn in turns if turn["wave_rows"] is None]
    causes = np.array([[1, turn["rows"], turn["files"]["cache"], turn["engines"]] for turn in static], dtype=float)
    effects = {
        f"{role} {unit}": fit(causes, np.array([turn["head"][role][unit] for turn in static]))
        for role in (DRIVER, "gcs_server", "_TallyActor")
        for unit in ("peak_mib", "cpu_seconds")
    }
    return {"turns": list(turns), "fit": effects}


def fit(causes: np.ndarray, effect: np.ndarray) -> dict[str, float]:
    """Fit what a row, a block and an engine add, none of them below zero."""
    scale = causes.max(axis=0)
    found = optimize.nnls(causes / scale, effect)[0] / scale
    return {**dict(zip(("base", "a_row", "a_block", "an_engine"), map(float, found), strict=True)),
            "largest_residual": float(np.abs(causes @ found - effect).max())}  # fmt: skip


def measure_indexes(log: Path) -> dict[str, Any]:
    """What is done once for all rows, at a tenth of 52 million rows and at all of them."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        for rows, files in KEYS:
            write_keys(Path(scratch) / str(rows), rows, files)
            found[str(rows)] = {part: _run_index(part, Path(scratch) / str(rows), log) for part in ("listing", "keys", "tokens", "waves")}
        for rows in SPLIT_ROWS:
            write_filtered(Path(scratch) / f"split-{rows}", rows)
            found[f"split {rows}"] = {"split": _run_index("split", Path(scratch) / f"split-{rows}", log)}
    return found


def _run_index(part: str, folder: Path, log: Path) -> dict[str, float]:
    with log.open("ab") as stream:
        command = [sys.executable, "-m", "benchmarks.scale.indexes", part, str(folder)]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, stderr=stream, text=True, check=True).stdout)
    print(part, folder.name, {name: round(value, 3) for name, value in found.items()}, file=sys.stderr, flush=True)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[], help="default: all")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    log = Path(tempfile.mkdtemp(prefix="bench-")) / "log"
    print(f"log: {log}", file=sys.stderr)
    parts: dict[str, Callable[[], Any]] = {
        "engines": lambda: compare_engines(args.rounds, log),
        "growth": lambda: measure_growth(log),
        "indexes": lambda: measure_indexes(log),
    }
    found: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    for name, measure_part in parts.items():
        if name in (args.parts or parts):
            found |= {name: measure_part(), "machine": machine()}
            _store(found)
    found["simulation"] = plan_generations(found)
    _store(found)
    draw_figure(found["simulation"])


def _store(found: dict[str, Any]) -> None:
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
