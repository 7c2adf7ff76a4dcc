"""Tables of results on the terminal, printed at the end of a command: metrics as rows, arms as columns."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from delia_ray.core.artifacts import Artifact
from delia_ray.core.layout import BASE
from delia_ray.lm_eval.schema import LmEvalChange, LmEvalChanges
from delia_ray.reporting.schema import MetricDifference, RunReport
from delia_ray.reporting.wording import glossary
from delia_ray.reporting.wording.formatting import format_number, format_signed

_NAME_WIDTH = 17
_Column: TypeAlias = tuple[str, list[str]]
"""Heading and cells; a cell may have several lines."""


@dataclass(frozen=True)
class MetricTable:
    """Table with a row for each metric and a column for each arm.

    No number wraps: columns that do not fit into the terminal's width go into a further table below.
    """

    title: str
    heading: str
    """Heading of the first column."""
    names: list[str]
    """First column: the metrics."""
    columns: list[_Column]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.title
        for columns in _split_columns(self.columns, options.max_width - _NAME_WIDTH):
            table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
            table.add_column(self.heading, max_width=_NAME_WIDTH, overflow="fold")
            for heading, _ in columns:
                table.add_column(heading, justify="right", no_wrap=True)
            for row, name in enumerate(self.names):
                table.add_row(name, *(cells[row] for _, cells in columns))
            yield ""
            yield table


def load_results_table(report: Artifact) -> MetricTable:
    """Load ``report.json`` of a finished run as a table."""
    return build_results_table(RunReport.model_validate_json((report.fetch("report.json")).read_text()))


def build_results_table(report: RunReport) -> MetricTable:
    """Build the table of every arm's metrics with 95 % intervals; the last column compares two arms.

    These are ``delia`` and ``sft`` where the report compares them, else the first pair that it compares.
    """
    metrics = report.list_metrics()
    columns = [(arm, [_format_estimate(report, arm, metric) for metric in metrics]) for arm in report.list_arms()]
    if pairs := report.list_pairs():
        first = pairs[0]
        columns.append((f"{first.left} - {first.right}", [_format_difference(first.differences.get(metric)) for metric in metrics]))
    names = [_format_name(report, metric) for metric in metrics]
    return MetricTable(f"run {report.run.name}: value \\[95 % interval]", "metric", names, columns)


def load_lm_eval_table(changes: Artifact) -> MetricTable:
    """Load lm-eval's scores of every arm, each with the 95 % interval of its change from the model before tuning."""
    lm_eval_changes = LmEvalChanges.model_validate_json((changes.fetch("changes.json")).read_text())
    columns = [
        (arm, [_format_change(by_arm.get(arm)) for by_arm in lm_eval_changes.metrics.values()]) for arm in lm_eval_changes.truncated_prompts
    ]
    title = f"lm-eval {', '.join(lm_eval_changes.lm_eval)}: value \\[95 % interval of the change from {BASE}]"
    return MetricTable(title, "task, metric", list(lm_eval_changes.metrics), columns)


def _split_columns(columns: Sequence[_Column], width: int) -> Iterator[list[_Column]]:
    """Split the columns into groups that fit into ``width`` characters, with at least one column each."""
    group: list[_Column] = []
    free = width
    for heading, cells in columns:
        needed = 1 + max(len(line) for text in (heading, *cells) for line in text.replace("\\[", "[").splitlines())
        if group and needed > free:
            yield group
            group, free = [], width
        group.append((heading, cells))
        free -= needed
    yield group


def _format_name(report: RunReport, metric: str) -> str:
    constant = report.constants.get(metric)
    return glossary.get_metric(metric).title + ("" if constant is None else f"\nconstant {format_number(constant)}")


def _format_estimate(report: RunReport, arm: str, metric: str) -> str:
    estimate = report.arms[arm].get(metric)
    if estimate is None or estimate.value is None:
        return "-"
    return f"{format_number(estimate.value)}\n{_format_interval(estimate.low, estimate.high, format_number)}"


def _format_difference(difference: MetricDifference | None) -> str:
    if difference is None or difference.difference is None:
        return "-"
    interval = _format_interval(difference.low, difference.high, format_signed)
    return f"{format_signed(difference.difference)}\n{interval}\n{difference.verdict or ''}"


def _format_change(change: LmEvalChange | None) -> str:
    if change is None:
        return "-"
    return format_number(change.value) + ("" if change.low is None else f"\n{_format_interval(change.low, change.high, format_signed)}")


def _format_interval(low: float | None, high: float | None, show: Callable[[float | None], str]) -> str:
    return "no interval" if low is None or high is None else f"\\[{show(low)}, {show(high)}]"
