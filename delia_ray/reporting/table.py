"""The table a run ends with on the terminal."""

from rich.table import Table

from delia_ray.artifacts import Artifact
from delia_ray.reporting import glossary
from delia_ray.reporting.numerals import number
from delia_ray.reporting.schema import Report


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


def _cell(report: Report, arm: str, metric: str) -> str:
    estimate = report.arms[arm].get(metric)
    if estimate is None or estimate.value is None:
        return "-"
    return f"{number(estimate.value)} \\[{number(estimate.low)}, {number(estimate.high)}]"
