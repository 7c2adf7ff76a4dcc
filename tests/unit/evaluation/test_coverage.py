"""Intervals and tests hold what they promise: by simulation, with what docs/evaluation.md prints."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "coverage.py"
_spec = importlib.util.spec_from_file_location("coverage_simulation", SCRIPT)
assert _spec is not None and _spec.loader is not None
simulation = importlib.util.module_from_spec(_spec)
sys.modules["coverage_simulation"] = simulation
_spec.loader.exec_module(simulation)


@pytest.fixture(scope="module")
def tables() -> str:
    return simulation.tables()


def cells(table: str) -> list[float]:
    """The shares, each written with three decimals."""
    words = [cell.strip() for line in table.splitlines() if line.startswith("|") for cell in line.split("|")]
    return [float(word) for word in words if len(word) == 5 and word[1] == "."]


def test_every_interval_of_a_rate_or_of_a_difference_covers_the_truth_in_92_of_100_runs(tables: str) -> None:
    *covering, alarms = tables.split("False alarms")[0], tables.split("False alarms")[1]
    found = cells(covering[0])
    assert len(found) == 12 * 4 + 12 * 7 + 12 * 3
    assert min(found) >= 0.92
    assert max(cells(alarms)) <= 0.07 and len(cells(alarms)) == 6


def test_the_documentation_prints_what_the_simulation_gives(tables: str) -> None:
    text = simulation.DOCS.read_text(encoding="utf-8")
    printed = text.partition(simulation.BEGIN)[2].partition(simulation.END)[0]
    assert cells(printed) == pytest.approx(cells(tables), abs=0.005), "run benchmarks/coverage.py --write"
