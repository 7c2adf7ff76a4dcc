"""What one GPU can show in some minutes: the tests that need one, then times and memory, in order of worth.

    python -m benchmarks.gpu [--minutes 12] [--device cuda] [--only llama-3-8b] [--out FILE]

Needs torch, transformers, peft and DeepSpeed (requirements/gpu_check.txt); neither Ray nor vLLM. Writes ``results/gpu.json`` after each
case, so that a call that is cut off leaves its figures, and prints a line for each. What does not fit into the GPU's memory is said so.
On a CPU (``--device cpu``) the same code runs with tiny sizes, and writes to a temporary folder.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu import attention, checks, losses
from benchmarks.gpu.cases import Group, plan_trainings
from benchmarks.gpu.child import DEVICES, open_device
from benchmarks.gpu.processes import measure_in_processes
from benchmarks.gpu.record import Record, describe
from benchmarks.machine import RESULTS, machine_with_gpu
from delia_ray.core.errors import UserError

_TESTS_LIMIT_S, _KERNELS_LIMIT_S, _CASE_LIMIT_S = 240.0, 60.0, 75.0


def plan() -> list[Group]:
    """All groups of cases, in order of worth."""
    kernels = [Group("checks", checks.CASES, _TESTS_LIMIT_S), Group("losses", losses.CASES, _KERNELS_LIMIT_S)]
    kernels += [Group("attention", attention.CASES, _KERNELS_LIMIT_S)]
    trainings = [tuple(training.name for training in group) for group in plan_trainings()]
    return [*kernels, *(Group("training", names, _CASE_LIMIT_S * len(names)) for names in trainings)]


def select(groups: list[Group], words: list[str]) -> list[Group]:
    """The groups with only the cases whose name contains one of ``words``; all without any.

    Raises:
        UserError: no name contains one of them.
    """
    if not words:
        return groups
    cases = [tuple(case for case in group.cases if any(word in case for word in words)) for group in groups]
    if not any(cases):
        raise UserError(f"--only: no case is called {' or '.join(words)}; the first are {', '.join(groups[0].cases + groups[1].cases)}")
    return [Group(group.module, kept, group.limit_s) for group, kept in zip(groups, cases, strict=True) if kept]


def run(groups: list[Group], device: str, deadline: float, record: Record, log: Path) -> bool:
    """Measure all groups, as far as the time lasts, and return whether no case failed."""
    succeeded = True
    for group in groups:
        command = [sys.executable, "-m", f"benchmarks.gpu.{group.module}", "--device", device]
        for case, figures in measure_in_processes(command, group.cases, min(deadline, time.monotonic() + group.limit_s), log):
            record.add(case, figures)
            print(describe(case, figures), flush=True)
            succeeded = succeeded and figures["outcome"] != "failed"
    return succeeded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0, help="for everything, the tests included")
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[0])
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="cases whose name contains one of the words")
    parser.add_argument("--out", type=Path, help="file of results")
    args = parser.parse_args()
    deadline = time.monotonic() + 60 * args.minutes
    folder = Path(tempfile.mkdtemp(prefix="gpu-"))
    try:
        open_device(args.device)
        groups = select(plan(), args.only)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    out = args.out or (RESULTS if args.device == "cuda" else folder) / "gpu.json"
    print(f"results: {out}; log: {folder / 'log'}", file=sys.stderr, flush=True)
    record = Record(out, machine_with_gpu(args.device))
    sys.exit(0 if run(groups, args.device, deadline, record, folder / "log") else 1)


if __name__ == "__main__":
    main()
