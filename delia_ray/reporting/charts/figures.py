"""Charts of the run page, as SVG with a text alternative each; the page lays them out side by side, or below each other on a phone."""

from collections.abc import Sequence
from typing import NamedTuple

from delia_ray.reporting.charts.charts import ChartRow, Series, draw_bars, draw_dots, draw_loss_curves
from delia_ray.reporting.charts.svg import ARM_COLORS, render_svg
from delia_ray.reporting.schema import FIRST_ARMS, CurvePoint, RunReport
from delia_ray.reporting.wording.formatting import format_number, format_percent
from delia_ray.reporting.wording.glossary import get_arm_title, get_metric
from delia_ray.reporting.wording.headline import label_probes


class Chart(NamedTuple):
    """A chart of one arm, one metric, or one group of rows."""

    name: str
    """The arm, the metric, or the group of rows."""
    svg: str
    description: str
    """The chart in words; also the SVG's label."""


def draw_token_charts(report: RunReport) -> list[Chart]:
    """Draw, for each arm, the rate of answers in the format when asked by the token, when asked in plain words, and when not asked."""
    charts: list[Chart] = []
    for index, (arm, color) in enumerate(_assign_colors(report).items()):
        rows = [ChartRow(label, report.arms[arm].get(probe), color) for probe, label in label_probes(report).items()]
        description = f"{get_arm_title(arm)}, share of answers in the format. {_describe_rows(rows, is_share=True)}"
        charts.append(Chart(arm, render_svg(draw_bars(rows), f"token-{index}", description), description))
    return charts


def draw_metric_charts(report: RunReport, metrics: Sequence[str]) -> list[Chart]:
    """Draw, for each metric, every arm's value with its interval, and the best constant answer's score where there is one."""
    charts: list[Chart] = []
    for index, metric in enumerate(metrics):
        rows = [ChartRow(get_arm_title(arm), report.arms[arm].get(metric), color) for arm, color in _assign_colors(report).items()]
        info = get_metric(metric)
        description = f"{info.title}. {_describe_rows(rows, is_share=info.is_share)}"
        figure = draw_dots(rows, is_share=info.is_share, constant=report.constants.get(metric))
        charts.append(Chart(metric, render_svg(figure, f"metric-{index}", description), description))
    return charts


def draw_loss_charts(report: RunReport) -> list[Chart]:
    """Draw the loss by step on task rows and on diverse rows, each with all arms that trained on such rows."""
    charts: list[Chart] = []
    for group in ("task", "diverse"):
        series = {arm: points for arm in report.list_arms() if (points := _select_losses(report.curves.get(arm, []), group))}
        if series:
            ends = [
                f"{get_arm_title(arm)} from {format_number(points[0][1])} to {format_number(points[-1][1])}"
                for arm, points in series.items()
            ]
            description = f"Loss on {group} rows by training step: {'; '.join(ends)}."
            figure = draw_loss_curves(series, _assign_colors(report))
            charts.append(Chart(group, render_svg(figure, f"curve-{group}", description), description))
    return charts


def _assign_colors(report: RunReport) -> dict[str, str]:
    return assign_arm_colors(report.list_arms())


def assign_arm_colors(arms: Sequence[str]) -> dict[str, str]:
    """Assign each arm a placeholder color: the same in all charts, and for ``FIRST_ARMS`` the same in all runs."""
    known, spare = len(FIRST_ARMS), len(ARM_COLORS) - len(FIRST_ARMS)
    others = [arm for arm in arms if arm not in FIRST_ARMS]
    indices = {arm: i for i, arm in enumerate(FIRST_ARMS)} | {arm: known + i % spare for i, arm in enumerate(others)}
    return {arm: ARM_COLORS[indices[arm]] for arm in arms}


def _select_losses(points: Sequence[CurvePoint], group: str) -> Series:
    losses = [(point.step, point.task_loss if group == "task" else point.diverse_loss) for point in points]
    return [(step, loss) for step, loss in losses if loss is not None]


def _describe_rows(rows: Sequence[ChartRow], *, is_share: bool) -> str:
    show = format_percent if is_share else format_number
    parts: list[str] = []
    for row in rows:
        interval = f", {show(row.estimate.low)} to {show(row.estimate.high)}" if row.estimate and row.estimate.low is not None else ""
        parts.append(f"{row.label}: {show(row.value)}{interval}.")
    return " ".join(parts)
