"""Coverage of the intervals and level of the test, by simulation, equal the tables in docs/evaluation.md."""

import pytest

from benchmarks import coverage, simulation

PRINTED = coverage.DOCS.read_text(encoding="utf-8").partition(coverage.BEGIN)[2].partition(coverage.END)[0]


def tables() -> list[list[list[str]]]:
    """Read the printed tables: rows of cells, the header first."""
    blocks: list[list[list[str]]] = [[]]
    for line in PRINTED.splitlines():
        if line.startswith("|"):
            blocks[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif blocks[-1]:
            blocks.append([])
    return [[table[0], *table[2:]] for table in blocks if table]


def proportions(table: list[list[str]]) -> list[float]:
    """Read the proportions, each written with three decimals."""
    return [float(cell) for row in table for cell in row if len(cell) == 5 and cell[1] == "."]


def test_every_printed_interval_covers_the_truth_in_92_of_100_runs_and_no_test_is_wrong_in_more_than_7():
    *covering, alarms = tables()
    assert [len(proportions(table)) for table in covering] == [12 * 4, 12 * 7, 12 * 3, 8 * 4, 8 * 4]
    assert min(proportion for table in covering for proportion in proportions(table)) >= 0.92
    assert len(proportions(alarms)) == 6 and max(proportions(alarms)) <= 0.07


def test_the_printed_tables_are_what_the_simulation_gives():
    """In each table the row that is simulated fastest; a cell has a seed of its own."""
    singles, pairs, composites, means, differences, alarms = (table[1:] for table in tables())
    shape, mean_shape, test_shape = coverage.SHAPES[0], coverage.MEAN_SHAPES[0], coverage.TEST_SHAPES[0]
    [(name, [case, *_]), *_] = coverage.COMPOSITES.items()
    simulated = [
        (singles[0][1:], [simulation.single_coverage(shape, rate) for rate in coverage.RATES]),
        (pairs[0][1:3], [simulation.paired_coverage(shape, pair) for pair in coverage.PAIRS[:2]]),
        (composites[0][2:3], [simulation.composite_coverage(name, coverage.COMPOSITE_SHAPES[0], case)]),
        (means[0][1:], [simulation.mean_coverage(mean_shape, each) for each in simulation.MEANS]),
        (differences[0][1:2], [simulation.mean_difference_coverage(mean_shape, *simulation.MEAN_PAIRS[0][1:])]),
        (alarms[0][:1], [simulation.false_positive_rate(test_shape)]),
    ]
    for printed, values in simulated:
        assert [float(cell) for cell in printed] == pytest.approx(values, abs=0.005), "run python -m benchmarks.coverage --write"
