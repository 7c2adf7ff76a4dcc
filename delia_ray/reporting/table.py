"""The tables that verbs end with on the terminal."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from delia_ray.artifacts import Artifact
from delia_ray.harness.schema import Change, Retention
from delia_ray.reporting import glossary
from delia_ray.reporting.numerals import number, signed
from delia_ray.reporting.schema import Difference, Report
from delia_ray.serving.catalogue import BASE

_METRIC_WIDTH = 17
_Column: TypeAlias = tuple[str, list[str]]
"""Heading and cells."""


class ResultsTable:
    """One row a metric, one column an arm, each with its 95 % interval; last the first pair's difference and what it says.

    Numbers are those of ``report.json``. None is broken over two lines: arms that do not fit beside each other get tables of their own.
    """

    def __init__(self, report: Report):
        self._report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = [(arm, [_cell(self._report, arm, metric) for metric in self._report.metric_names()]) for arm in self._report.arm_names()]
        if pairs := self._report.pairs():
            first = pairs[0]
            found = [_difference(first.differences.get(metric)) for metric in self._report.metric_names()]
            columns.append((f"{first.left} - {first.right}", found))
        yield f"run {self._report.run.name}: value [95 % interval]"
        for shown in _side_by_side(columns, options.max_width - _METRIC_WIDTH):
            yield ""
            yield self._table(shown)

    def _table(self, columns: Sequence[_Column]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        table.add_column("metric", max_width=_METRIC_WIDTH, overflow="fold")
        for name, _ in columns:
            table.add_column(name, justify="right", no_wrap=True)
        for row, metric in enumerate(self._report.metric_names()):
            table.add_row(self._name(metric), *(cells[row] for _, cells in columns))
        return table

    def _name(self, metric: str) -> str:
        floor = self._report.constants.get(metric)
        return glossary.metric_words(metric).title + ("" if floor is None else f"\nconstant {number(floor)}")


def results_table(report: Artifact) -> ResultsTable:
    """The results of a finished run."""
    return ResultsTable(Report.model_validate_json((report.data / "report.json").read_text()))


def retention_table(retention: Artifact) -> Table:
    """One row a metric, one column an arm: its value, and in brackets the 95 % interval of its change from the model before tuning."""
    read = Retention.model_validate_json((retention.data / "retention.json").read_text())
    table = Table(title=f"lm-eval {', '.join(read.lm_eval)}: value [95 % interval of the change from {BASE}]", title_justify="left")
    table.add_column("task, metric")
    for arm in read.cut:
        table.add_column(arm, justify="right")
    for title, arms in read.metrics.items():
        table.add_row(title, *(_changed(arms.get(arm)) for arm in read.cut))
    return table


def _changed(change: Change | None) -> str:
    if change is None:
        return "-"
    return number(change.value) + ("" if change.low is None else f" \\[{number(change.low)}, {number(change.high)}]")


def _side_by_side(columns: Sequence[_Column], width: int) -> Iterator[list[_Column]]:
    """As many columns at a time as ``width`` holds, at least one."""
    taken: list[_Column] = []
    left = width
    for name, cells in columns:
        wide = 1 + max(len(line) for text in (name, *cells) for line in text.replace("\\[", "[").splitlines())
        if taken and wide > left:
            yield taken
            taken, left = [], width
        taken.append((name, cells))
        left -= wide
    yield taken


def _cell(report: Report, arm: str, metric: str) -> str:
    estimate = report.arms[arm].get(metric)
    if estimate is None or estimate.value is None:
        return "-"
    return f"{number(estimate.value)}\n{_between(estimate.low, estimate.high, number)}"


def _difference(found: Difference | None) -> str:
    if found is None or found.difference is None:
        return "-"
    return f"{signed(found.difference)}\n{_between(found.low, found.high, signed)}\n{found.verdict or ''}"


def _between(low: float | None, high: float | None, show: Callable[[float | None], str]) -> str:
    return "no interval" if low is None or high is None else f"\\[{show(low)}, {show(high)}]"
