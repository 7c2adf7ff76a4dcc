"""The tables that verbs end with on the terminal."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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

_NAME_WIDTH = 17
_Column: TypeAlias = tuple[str, list[str]]
"""Heading and cells."""


@dataclass(frozen=True)
class SideBySide:
    """One row a metric, one column an arm. No number is broken over two lines: arms that do not fit get tables of their own."""

    title: str
    heading: str
    """Of the metrics' names."""
    names: list[str]
    columns: list[_Column]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.title
        for shown in _fitting(self.columns, options.max_width - _NAME_WIDTH):
            table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
            table.add_column(self.heading, max_width=_NAME_WIDTH, overflow="fold")
            for heading, _ in shown:
                table.add_column(heading, justify="right", no_wrap=True)
            for row, name in enumerate(self.names):
                table.add_row(name, *(cells[row] for _, cells in shown))
            yield ""
            yield table


def results_table(report: Artifact) -> SideBySide:
    """The results of a finished run."""
    return results(Report.model_validate_json((report.data / "report.json").read_text()))


def results(report: Report) -> SideBySide:
    """Every arm's metrics, each with its 95 % interval; last the first pair's difference and what it says. Numbers are the record's."""
    metrics = report.metric_names()
    columns = [(arm, [_cell(report, arm, metric) for metric in metrics]) for arm in report.arm_names()]
    if pairs := report.pairs():
        first = pairs[0]
        columns.append((f"{first.left} - {first.right}", [_difference(first.differences.get(metric)) for metric in metrics]))
    names = [_name(report, metric) for metric in metrics]
    return SideBySide(f"run {report.run.name}: value \\[95 % interval]", "metric", names, columns)


def retention_table(retention: Artifact) -> SideBySide:
    """Every arm's value, and in brackets the 95 % interval of its change from the model before tuning."""
    read = Retention.model_validate_json((retention.data / "retention.json").read_text())
    columns = [(arm, [_changed(arms.get(arm)) for arms in read.metrics.values()]) for arm in read.cut]
    title = f"lm-eval {', '.join(read.lm_eval)}: value \\[95 % interval of the change from {BASE}]"
    return SideBySide(title, "task, metric", list(read.metrics), columns)


def _fitting(columns: Sequence[_Column], width: int) -> Iterator[list[_Column]]:
    """As many columns at a time as ``width`` holds, at least one."""
    taken: list[_Column] = []
    left = width
    for heading, cells in columns:
        wide = 1 + max(len(line) for text in (heading, *cells) for line in text.replace("\\[", "[").splitlines())
        if taken and wide > left:
            yield taken
            taken, left = [], width
        taken.append((heading, cells))
        left -= wide
    yield taken


def _name(report: Report, metric: str) -> str:
    floor = report.constants.get(metric)
    return glossary.metric_words(metric).title + ("" if floor is None else f"\nconstant {number(floor)}")


def _cell(report: Report, arm: str, metric: str) -> str:
    estimate = report.arms[arm].get(metric)
    if estimate is None or estimate.value is None:
        return "-"
    return f"{number(estimate.value)}\n{_between(estimate.low, estimate.high, number)}"


def _difference(found: Difference | None) -> str:
    if found is None or found.difference is None:
        return "-"
    return f"{signed(found.difference)}\n{_between(found.low, found.high, signed)}\n{found.verdict or ''}"


def _changed(change: Change | None) -> str:
    if change is None:
        return "-"
    return number(change.value) + ("" if change.low is None else f"\n{_between(change.low, change.high, signed)}")


def _between(low: float | None, high: float | None, show: Callable[[float | None], str]) -> str:
    return "no interval" if low is None or high is None else f"\\[{show(low)}, {show(high)}]"
