"""The tables of docs/evaluation.md: how often the 95 % intervals of rates and means cover the truth, and how often the test by clusters is
wrong.

    python -m benchmarks.coverage            # prints the tables
    python -m benchmarks.coverage --write    # puts them into docs/evaluation.md
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from benchmarks.simulation import (
    HEAVY,
    ICC,
    MADE_RUNS,
    MEAN_PAIRS,
    MEAN_RUNS,
    MEANS,
    PAIRED_RUNS,
    RESAMPLES,
    SINGLE_RUNS,
    TEST_RUNS,
    Shape,
    false_alarms,
    made_coverage,
    mean_coverage,
    mean_difference_coverage,
    paired_coverage,
    single_coverage,
)

DOCS = Path(__file__).parents[1] / "docs" / "evaluation.md"
BEGIN, END = "<!-- coverage: written by benchmarks/coverage.py -->", "<!-- end of coverage -->"
RATES = (0.0, 0.02, 0.5, 0.98)
PAIRS = ((0.0, 0.0), (0.02, 0.02), (0.5, 0.5), (0.98, 0.98), (0.5, 0.02), (0.98, 0.5), (1.0, 0.0))
SHAPES = (
    *(Shape(n, n) for n in (32, 80, 200)),
    *(Shape(n, n // 2) for n in (32, 80, 200)),
    Shape(80, 20),
    Shape(200, 40),
    Shape(80, 12, is_even=False),
    *(Shape(n, 8) for n in (32, 80, 200)),
)
MADE_SHAPES = (Shape(80, 80), Shape(80, 40), Shape(80, 8))
TEST_SHAPES = (Shape(12, 6), Shape(80, 8), Shape(200, 8), Shape(80, 20), Shape(80, 40), Shape(200, 100))
MEAN_SHAPES = (
    *(Shape(n, n) for n in (6, 12, 32, 80)),
    Shape(12, 6),
    Shape(80, 40),
    Shape(80, 12, is_even=False),
    Shape(80, 8),
)
MADE = {
    "selectivity": ((0.98, 0.02, 0.98, 0.98), (1.0, 0.0, 1.0, 1.0), (0.5, 0.02, 0.5, 0.5), (0.98, 0.02, 0.98, 0.02)),
    "bal_acc": ((0.98, 0.02, 0.5, 0.5), (1.0, 0.0, 1.0, 0.0), (0.5, 0.5, 0.5, 0.5), (0.98, 0.02, 0.98, 0.02)),
    "f1_yes": ((0.98, 0.02, 0.5, 0.5), (1.0, 0.0, 1.0, 0.0), (0.5, 0.5, 0.5, 0.5), (0.98, 0.02, 0.98, 0.02)),
}
"""Name -> the rates of the arms (``made_coverage``)."""


def tables() -> str:
    """All of them, as Markdown."""
    return "\n\n".join(["\n".join(_singles()), "\n".join(_pairs()), "\n".join(_made()), *_means(), "\n".join(_tests())])


def _singles() -> Iterator[str]:
    yield f"Coverage of a single rate ({SINGLE_RUNS} runs a cell; clusters with an intraclass correlation of {ICC}):\n"
    yield _row("items", *(f"rate {rate:g}" for rate in RATES))
    yield _rule(len(RATES))
    for shape in SHAPES:
        yield _row(str(shape), *(f"{single_coverage(shape, rate):.3f}" for rate in RATES))


def _pairs() -> Iterator[str]:
    yield f"Coverage of the difference of two arms' rates on the same items ({PAIRED_RUNS} runs a cell):\n"
    yield _row("items", *(f"{left:g}, {right:g}" for left, right in PAIRS))
    yield _rule(len(PAIRS))
    for shape in SHAPES:
        yield _row(str(shape), *(f"{paired_coverage(shape, pair):.3f}" for pair in PAIRS))


def _made() -> Iterator[str]:
    yield (
        f"Coverage of the difference of two arms in what is made of rates ({MADE_RUNS} runs a cell; rates of each arm: with and without "
        "the token; how often `yes` is said to be, and `no` is taken for it):\n"
    )
    yield _row("metric", "rates", *map(str, MADE_SHAPES))
    yield _rule(1 + len(MADE_SHAPES))
    for name, cases in MADE.items():
        for rates in cases:
            values = (f"{made_coverage(name, shape, rates):.3f}" for shape in MADE_SHAPES)
            yield _row(f"`{name}`", "{:g}, {:g}; {:g}, {:g}".format(*rates), *values)


def _means() -> Iterator[str]:
    yield "\n".join(
        [
            f"Coverage of a mean of scores ({MEAN_RUNS} runs a cell, {RESAMPLES} resamples):\n",
            _row("items", *(each.name for each in MEANS)),
            _rule(len(MEANS)),
            *(_row(str(shape), *(f"{mean_coverage(shape, each):.3f}" for each in MEANS)) for shape in MEAN_SHAPES),
        ]
    )
    yield "\n".join(
        [
            f"Coverage of the difference of two arms' means on the same items ({MEAN_RUNS} runs a cell):\n",
            _row("items", *(name for name, *_ in MEAN_PAIRS)),
            _rule(len(MEAN_PAIRS)),
            *(_row(str(shape), *(f"{mean_difference_coverage(shape, *each):.3f}" for _, *each in MEAN_PAIRS)) for shape in MEAN_SHAPES),
        ]
    )
    heavy = ", ".join(f"{mean_coverage(shape, HEAVY):.3f} with {shape}" for shape in MEAN_SHAPES[:4])
    yield f"Heavier tails are covered less often: the mean of lognormal scores with sigma 1, of which one in 40 is above 7, {heavy}."


def _tests() -> Iterator[str]:
    yield f"False alarms of the test by clusters (p <= 0.05), two arms alike, intraclass correlation 0.5 ({TEST_RUNS} runs a cell):\n"
    yield _row(*map(str, TEST_SHAPES))
    yield _rule(len(TEST_SHAPES) - 1)
    yield _row(*(f"{false_alarms(shape):.3f}" for shape in TEST_SHAPES))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|---|" + "---|" * columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/evaluation.md")
    found = tables()
    if parser.parse_args().write:
        text = DOCS.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        DOCS.write_text(f"{before}{BEGIN}\n\n{found}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(found)


if __name__ == "__main__":
    main()
