"""The tables that verbs end with on the terminal."""

from rich.table import Table

from delia_ray.artifacts import Artifact
from delia_ray.harness.schema import Change, Retention
from delia_ray.reporting import glossary
from delia_ray.reporting.numerals import number
from delia_ray.reporting.schema import Report
from delia_ray.serving.catalogue import BASE


def results_table(report: Artifact) -> Table:
    """One row a metric, one column an arm, each with its 95 % interval; numbers are those of ``report.json``."""
    read = Report.model_validate_json((report.data / "report.json").read_text())
    table = Table(title=f"run {read.run.name}: value [95 % interval]", title_justify="left")
    table.add_column("metric")
    for arm in read.arm_names():
        table.add_column(arm, justify="right")
    for metric in read.metric_names():
        cells = [_cell(read, arm, metric) for arm in read.arm_names()]
        table.add_row(glossary.metric_words(metric).title, *cells)
    return table


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


def _cell(report: Report, arm: str, metric: str) -> str:
    estimate = report.arms[arm].get(metric)
    if estimate is None or estimate.value is None:
        return "-"
    return f"{number(estimate.value)} \\[{number(estimate.low)}, {number(estimate.high)}]"
