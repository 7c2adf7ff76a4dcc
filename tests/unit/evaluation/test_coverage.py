"""Intervals and tests hold what they promise: by simulation, with what docs/evaluation.md prints."""

import pytest

from benchmarks import coverage, simulation

PRINTED = coverage.DOCS.read_text(encoding="utf-8").partition(coverage.BEGIN)[2].partition(coverage.END)[0]


def tables() -> list[list[list[str]]]:
    """The printed tables: rows of cells, the head first."""
    found: list[list[list[str]]] = [[]]
    for line in PRINTED.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [[table[0], *table[2:]] for table in found if table]


def shares(table: list[list[str]]) -> list[float]:
    """The shares, each written with three decimals."""
    return [float(cell) for row in table for cell in row if len(cell) == 5 and cell[1] == "."]


def test_every_printed_interval_covers_the_truth_in_92_of_100_runs_and_no_test_is_wrong_in_more_than_7():
    *covering, alarms = tables()
    assert [len(shares(table)) for table in covering] == [12 * 4, 12 * 7, 12 * 3, 8 * 4, 8 * 4]
    assert min(share for table in covering for share in shares(table)) >= 0.92
    assert len(shares(alarms)) == 6 and max(shares(alarms)) <= 0.07


def test_the_printed_tables_are_what_the_simulation_gives():
    """In each table the row that is simulated fastest; a cell has a seed of its own."""
    singles, pairs, made, means, differences, alarms = (table[1:] for table in tables())
    shape, mean_shape, test_shape = coverage.SHAPES[0], coverage.MEAN_SHAPES[0], coverage.TEST_SHAPES[0]
    [(name, [case, *_]), *_] = coverage.MADE.items()
    again = [
        (singles[0][1:], [simulation.single_coverage(shape, rate) for rate in coverage.RATES]),
        (pairs[0][1:3], [simulation.paired_coverage(shape, pair) for pair in coverage.PAIRS[:2]]),
        (made[0][2:3], [simulation.made_coverage(name, coverage.MADE_SHAPES[0], case)]),
        (means[0][1:], [simulation.mean_coverage(mean_shape, each) for each in simulation.MEANS]),
        (differences[0][1:2], [simulation.mean_difference_coverage(mean_shape, *simulation.MEAN_PAIRS[0][1:])]),
        (alarms[0][:1], [simulation.false_alarms(test_shape)]),
    ]
    for printed, found in again:
        assert [float(cell) for cell in printed] == pytest.approx(found, abs=0.005), "run python -m benchmarks.coverage --write"
