"""The tables of docs/evaluation.md: coverage of the 95 % intervals of rates and means, and false positive rate of the test by cluster.

Usage:

    python -m benchmarks.coverage            # prints the tables
    python -m benchmarks.coverage --write    # puts them into docs/evaluation.md
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from benchmarks.simulation import (
    COMPOSITE_RUNS,
    HEAVY,
    ICC,
    MEAN_PAIRS,
    MEAN_RUNS,
    MEANS,
    PAIRED_RUNS,
    RESAMPLES,
    SINGLE_RUNS,
    TEST_RUNS,
    Shape,
    composite_coverage,
    false_positive_rate,
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
COMPOSITE_SHAPES = (Shape(80, 80), Shape(80, 40), Shape(80, 8))
TEST_SHAPES = (Shape(12, 6), Shape(80, 8), Shape(200, 8), Shape(80, 20), Shape(80, 40), Shape(200, 100))
MEAN_SHAPES = (
    *(Shape(n, n) for n in (6, 12, 32, 80)),
    Shape(12, 6),
    Shape(80, 40),
    Shape(80, 12, is_even=False),
    Shape(80, 8),
)
COMPOSITES = {
    "selectivity": ((0.98, 0.02, 0.98, 0.98), (1.0, 0.0, 1.0, 1.0), (0.5, 0.02, 0.5, 0.5), (0.98, 0.02, 0.98, 0.02)),
    "bal_acc": ((0.98, 0.02, 0.5, 0.5), (1.0, 0.0, 1.0, 0.0), (0.5, 0.5, 0.5, 0.5), (0.98, 0.02, 0.98, 0.02)),
    "f1_yes": ((0.98, 0.02, 0.5, 0.5), (1.0, 0.0, 1.0, 0.0), (0.5, 0.5, 0.5, 0.5), (0.98, 0.02, 0.98, 0.02)),
}
"""Name -> the rates of the arms (``composite_coverage``)."""


def make_tables() -> str:
    """Simulate all tables and format them as Markdown."""
    return "\n\n".join(
        [
            "\n".join(_tabulate_rates()),
            "\n".join(_tabulate_differences()),
            "\n".join(_tabulate_composites()),
            *_tabulate_means(),
            "\n".join(_tabulate_tests()),
        ]
    )


def _tabulate_rates() -> Iterator[str]:
    yield f"Coverage of a single rate ({SINGLE_RUNS} runs a cell; clusters with an intraclass correlation of {ICC}):\n"
    yield _format_row("items", *(f"rate {rate:g}" for rate in RATES))
    yield _format_rule(len(RATES))
    for shape in SHAPES:
        yield _format_row(str(shape), *(f"{single_coverage(shape, rate):.3f}" for rate in RATES))


def _tabulate_differences() -> Iterator[str]:
    yield f"Coverage of the difference of two arms' rates on the same items ({PAIRED_RUNS} runs a cell):\n"
    yield _format_row("items", *(f"{left:g}, {right:g}" for left, right in PAIRS))
    yield _format_rule(len(PAIRS))
    for shape in SHAPES:
        yield _format_row(str(shape), *(f"{paired_coverage(shape, pair):.3f}" for pair in PAIRS))


def _tabulate_composites() -> Iterator[str]:
    yield (
        f"Coverage of the difference of two arms in metrics composed of rates ({COMPOSITE_RUNS} runs a cell; rates of each arm: with and "
        "without the token; how often items with the label `yes`, and with `no`, are answered `yes`):\n"
    )
    yield _format_row("metric", "rates", *map(str, COMPOSITE_SHAPES))
    yield _format_rule(1 + len(COMPOSITE_SHAPES))
    for name, cases in COMPOSITES.items():
        for rates in cases:
            values = (f"{composite_coverage(name, shape, rates):.3f}" for shape in COMPOSITE_SHAPES)
            yield _format_row(f"`{name}`", "{:g}, {:g}; {:g}, {:g}".format(*rates), *values)


def _tabulate_means() -> Iterator[str]:
    yield "\n".join(
        [
            f"Coverage of a mean of scores ({MEAN_RUNS} runs a cell, {RESAMPLES} resamples):\n",
            _format_row("items", *(each.name for each in MEANS)),
            _format_rule(len(MEANS)),
            *(_format_row(str(shape), *(f"{mean_coverage(shape, each):.3f}" for each in MEANS)) for shape in MEAN_SHAPES),
        ]
    )
    yield "\n".join(
        [
            f"Coverage of the difference of two arms' means on the same items ({MEAN_RUNS} runs a cell):\n",
            _format_row("items", *(name for name, *_ in MEAN_PAIRS)),
            _format_rule(len(MEAN_PAIRS)),
            *(
                _format_row(
                    str(shape), *(f"{mean_difference_coverage(shape, left, right, equal):.3f}" for _, left, right, equal in MEAN_PAIRS)
                )
                for shape in MEAN_SHAPES
            ),
        ]
    )
    heavy = ", ".join(f"{mean_coverage(shape, HEAVY):.3f} with {shape}" for shape in MEAN_SHAPES[:4])
    yield f"Heavier tails are covered less often: the mean of lognormal scores with sigma 1, of which one in 40 is above 7, {heavy}."


def _tabulate_tests() -> Iterator[str]:
    yield f"False positive rate of the test by cluster (p <= 0.05), two arms alike, intraclass correlation 0.5 ({TEST_RUNS} runs a cell):\n"
    yield _format_row(*map(str, TEST_SHAPES))
    yield _format_rule(len(TEST_SHAPES) - 1)
    yield _format_row(*(f"{false_positive_rate(shape):.3f}" for shape in TEST_SHAPES))


def _format_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _format_rule(columns: int) -> str:
    return "|---|" + "---|" * columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/evaluation.md")
    tables = make_tables()
    if parser.parse_args().write:
        text = DOCS.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        DOCS.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(tables)


if __name__ == "__main__":
    main()
