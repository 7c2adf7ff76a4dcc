"""Supervised tokens a second, and rows tokenized a second, against what a user would otherwise pick.

    python -m benchmarks.training [--rounds 5] [--precision auto] [--only alone paired preparing shares metrics_cost]

Writes ``results/training.json``, or ``training_<precision>.json`` for another precision than the demo's. Each ratio is ours /
theirs, turn by turn; ``mfu`` and ``metrics_cost`` are shares.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.inputs import LARGE_STEPS, PRECISIONS, STEPS, WARM_STEPS, demo
from benchmarks.paired import Way, in_turns, median, ratio, report
from benchmarks.preparing import FEW, MANY, write_mixture

SHARES = {
    64: {"": ("ours_2",), "_full": ("ours_2", "--full"), "_1": ("ours",)},
    16: {"_16_full": ("ours_2", "--full")},
    8: {"_8": ("ours_2",), "_8_1": ("ours",)},
}
"""Rows a step -> end of the figure's name -> what it is measured on: two workers, as in the demo, or one. 64 is the batch of the
authors' README, 8 the demo's; the parts ``alone`` and ``paired`` find 16's other two."""

Found = tuple[dict[str, dict[str, Any]], list[Way]]


@dataclass(frozen=True)
class Run:
    """How often every way works, in which precision, and where its own words go."""

    rounds: int
    precision: str
    log: Path

    def trainer(self, arm: str, *flags: str) -> Way:
        return Way("_".join([arm, *(flag.strip("-") for flag in flags)]), [sys.executable, *self._module(arm, *flags)])

    def launched(self, name: str, arm: str) -> Way:
        """``arm`` in two processes under torchrun."""
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        return Way(name, [sys.executable, *launch, *self._module(arm)])

    def _module(self, arm: str, *flags: str) -> list[str]:
        return ["-m", "benchmarks.trainers", arm, "--precision", self.precision, *flags]


def alone(run: Run) -> Found:
    """Ours with one worker, a plain loop (twice, to see how quiet the machine is), accelerate.

    ``bare`` is a loop around our own sums: what is left between it and ours is the system's cost.
    """
    ways = us, plain, bare, accelerate, again = [run.trainer(arm) for arm in ("ours", "plain", "bare", "accelerate", "plain")]
    again.name = "plain_again"
    in_turns(ways, run.rounds, run.log)
    found = {
        "plain": ratio(us.rates, plain.rates),
        "bare": ratio(us.rates, bare.rates),
        "accelerate": ratio(us.rates, accelerate.rates),
        "plain_against_itself": ratio(plain.rates, again.rates),
        "mfu_16_1": _peak_share(us),
    }
    return found, ways


def paired(run: Run) -> Found:
    """Ours with two workers, both loops under torchrun, and TRL at two settings, of which the faster one counts."""
    ways = us, plain, bare, pure, autocast = [
        run.trainer("ours_2"),
        run.launched("torchrun_2", "plain"),
        run.launched("bare_2", "bare"),
        run.trainer("trl_pure"),
        run.trainer("trl_autocast"),
    ]
    in_turns(ways, run.rounds, run.log)
    trl = {way.name: ratio(us.rates, way.rates) for way in (pure, autocast)}
    found = {
        "torchrun_2": ratio(us.rates, plain.rates),
        "bare_2": ratio(us.rates, bare.rates),
        "trl": min(trl.values(), key=lambda each: each["median"]),
        "mfu_16": _peak_share(us),
    }
    return found | trl, ways


def preparing(run: Run) -> Found:
    """Tokenizing."""
    many, few = run.log.parent / "many", run.log.parent / "few"
    write_mixture(demo(), MANY, many)
    write_mixture(demo(), FEW, few)
    command = [sys.executable, "-m", "benchmarks.preparing"]
    us, theirs = (Way(f"prepare_{arm}", [*command, arm, str(many), str(few)]) for arm in ("ours", "datasets"))
    in_turns([us, theirs], run.rounds, run.log)
    return {"prepare": ratio(us.rates, theirs.rates)}, [us, theirs]


def shares(run: Run) -> Found:
    """The share of the peak with the authors' larger batch (64), and what the smaller ones leave of it."""
    found, ways = dict[str, dict[str, Any]](), list[Way]()
    for rows, arms in SHARES.items():
        turns = {name: run.trainer(*arm, "--rows", str(rows)) for name, arm in arms.items()}
        in_turns(list(turns.values()), min(run.rounds, 3), run.log)
        found |= {f"mfu{name}": _peak_share(way) for name, way in turns.items()}
        ways += turns.values()
    return found, ways


def _peak_share(way: Way) -> dict[str, Any]:
    return median([turn["mfu"] for turn in way.said])


def metrics_cost(run: Run) -> Found:
    """Share of a step that the metrics take."""
    adapter, every = run.trainer("metrics_cost"), run.trainer("metrics_cost", "--full")
    in_turns([adapter, every], 1, run.log)
    return {"metrics_cost": median(adapter.said[0]["shares"]), "metrics_cost_full": median(every.said[0]["shares"])}, []


PARTS: dict[str, Callable[[Run], Found]] = {
    "alone": alone,
    "paired": paired,
    "preparing": preparing,
    "shares": shares,
    "metrics_cost": metrics_cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0])
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    given = demo(precision=args.precision)
    run = Run(args.rounds, args.precision, Path(tempfile.mkdtemp(prefix="bench-")) / "log")
    print(f"log: {run.log}", file=sys.stderr)
    name = "training" if run.precision == PRECISIONS[0] else f"training_{run.precision}"
    settings: dict[str, Any] = {
        "finetune": given.config.model_dump(mode="json"),
        "precision": str(given.dtype),
        "steps": {"warm_up": WARM_STEPS, "timed": STEPS, "timed_large": LARGE_STEPS},
        "torch_threads": torch.get_num_threads(),
        "peak_gib": {},
        "rates": {},
    }
    for part in args.only:
        ratios, ways = PARTS[part](run)
        settings["peak_gib"] |= {way.name: round(way.peak_gib, 2) for way in ways}
        settings["rates"] |= {way.name: [round(rate, 1) for rate in way.rates] for way in ways}
        report(name, ratios, settings)


if __name__ == "__main__":
    main()
