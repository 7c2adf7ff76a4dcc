"""Page of an experiment: scores by the ratio of diverse rows, and every arm compared with the rival, over seeds."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from delia_ray.core.artifacts import Artifact
from delia_ray.core.layout import BASE, INSTRUCTED
from delia_ray.evaluation.statistics.grid import GridPoint, list_grid_points, values_by_seed
from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.reporting.charts.charts import ChartRow, draw_dots
from delia_ray.reporting.charts.experiment_charts import draw_scores_by_ratio
from delia_ray.reporting.charts.svg import ARM_COLORS, render_svg
from delia_ray.reporting.experiment_schema import ExperimentReport
from delia_ray.reporting.html import ChartPanel, build_environment, make_standalone_svg
from delia_ray.reporting.wording.conclusions import KEY_METRICS
from delia_ray.reporting.wording.formatting import NBSP, format_gain, format_number, format_percent, format_signed
from delia_ray.reporting.wording.glossary import (
    describe_constant,
    describe_metric,
    get_arm_name,
    get_arm_title,
    get_metric,
    get_metric_name,
)

_CURVES = ("selectivity", "spill", "format_acc", "no_token", "retention_kl", "label_acc")
"""Metrics of the built-in task that are drawn over rho, as far as they were measured."""
_MOSTLY_LEVEL = 3.0
"""Scales of a fitted curve that cover 95 % of its rise (1 - exp(-3)). If that is more rho than was tried, the limit is not in the data."""
_COLORS = {BASE: ARM_COLORS[0], INSTRUCTED: ARM_COLORS[0], "sft": ARM_COLORS[1], "delia": ARM_COLORS[2]}


class TableCell(NamedTuple):
    """Mean of a metric at one grid point, and the lines on its difference from the rival."""

    estimate: Interval
    lines: list[str]
    """Empty where nothing is compared."""


def render_experiment(experiment: Artifact) -> dict[str, str]:
    """Render the page of a finished ``experiment`` and its figures as files of their own: file name -> text."""
    report = ExperimentReport.model_validate_json((experiment.fetch("experiment.json")).read_text(encoding="utf-8"))
    figures = {f"figures/{name}.svg": svg for name, svg in draw_experiment_figures(report).items()}
    return {"experiment.html": render_experiment_page(report), **figures}


def render_experiment_page(report: ExperimentReport) -> str:
    """Render the page of ``report``."""
    defaults = _select_default_points(report)
    template = build_environment().get_template("experiment.html.j2")
    metrics = _list_metrics(report)
    return template.render(
        report=report,
        rival=get_arm_name(_get_rival_arm(report)),
        ratio_panels=list(_build_ratio_panels(report).values()),
        arm_panels=[_build_arm_panel(report, defaults, metric) for metric in metrics],
        conclusions=list(_write_conclusions(report, defaults)),
        arms=[point.arm for point in defaults],
        instructed_arm=INSTRUCTED,
        points=list_grid_points(report.rows),
        metrics=metrics,
        cells={(str(point), metric): _build_cell(report, point, metric) for point in list_grid_points(report.rows) for metric in metrics},
        descriptions={metric: describe_metric(metric, report.config["task"]["token"]) for metric in metrics},
        learning_rates=_format_learning_rates(report),
        fits=list(_describe_fits(report)),
        gains=report.gains if any(len(by_n) > 1 for by_metric in report.gains.values() for by_n in by_metric.values()) else {},
    )


def draw_experiment_figures(report: ExperimentReport) -> dict[str, str]:
    """Draw the charts of the page as SVG files: name -> SVG."""
    defaults = _select_default_points(report)
    by_arm = {f"arms-{metric}": _build_arm_panel(report, defaults, metric) for metric in _list_metrics(report)}
    return {name: make_standalone_svg(panel.svg) for name, panel in {**_build_ratio_panels(report), **by_arm}.items()}


def _get_rival_arm(report: ExperimentReport) -> str:
    return report.rival.split(",")[0]


def _list_metrics(report: ExperimentReport) -> list[str]:
    """List the metrics that any model has a value of, the key metrics first."""
    measured = list(dict.fromkeys(metric for row in report.rows for metric, value in row.metrics.items() if value is not None))
    return [*(metric for metric in KEY_METRICS if metric in measured), *(metric for metric in measured if metric not in KEY_METRICS)]


def _select_default_points(report: ExperimentReport) -> list[GridPoint]:
    """Select each arm at its default ratio and N, which is the first of its grid points."""
    firsts: dict[str, GridPoint] = {}
    for point in list_grid_points(report.rows):
        firsts.setdefault(point.arm, point)
    return list(firsts.values())


def _build_ratio_panels(report: ExperimentReport) -> dict[str, ChartPanel]:
    """Build a panel for each metric of each arm that was trained at three ratios or more: name -> panel."""
    panels: dict[str, ChartPanel] = {}
    for arm in dict.fromkeys(row.arm for row in report.rows):
        first = next(row for row in report.rows if row.arm == arm)
        by_ratio = [point for point in list_grid_points(report.rows) if point.arm == arm and point.n == first.n and point.rho is not None]
        if len(by_ratio) < 3:
            continue
        measured = _list_metrics(report)
        for metric in [metric for metric in _CURVES if metric in measured] or measured:
            panels[f"ratio-{arm}-{metric}"] = _build_ratio_panel(report, arm, by_ratio, metric)
    return panels


def _build_ratio_panel(report: ExperimentReport, arm: str, by_ratio: list[GridPoint], metric: str) -> ChartPanel:
    info = get_metric(metric)
    means = {point.rho or 0.0: report.means[str(point)][metric] for point in by_ratio}
    seeds = {point.rho or 0.0: list(values_by_seed(report.rows, point, metric).values()) for point in by_ratio}
    fit = report.fits.get(arm, {}).get(metric)
    show = format_percent if info.is_share else format_number
    description = "; ".join(f"rho {rho:g}: {show(means[rho].value)}" for rho in sorted(means))
    figure = draw_scores_by_ratio(means, seeds, fit, _COLORS.get(arm, ARM_COLORS[3]), is_share=info.is_share)
    note = f"{info.better} is better" if info.better else ""
    title = info.title if arm == "delia" else f"{info.title}, {get_arm_title(arm)}"
    return ChartPanel(title, note, Markup(render_svg(figure, f"ratio-{arm}-{metric}", f"{title}. {description}")))


def _build_arm_panel(report: ExperimentReport, defaults: list[GridPoint], metric: str) -> ChartPanel:
    info = get_metric(metric)
    rows = [
        ChartRow(get_arm_title(point.arm), report.means[str(point)][metric], _COLORS.get(point.arm, ARM_COLORS[3])) for point in defaults
    ]
    description = "; ".join(f"{row.label} {format_number(row.value)}" for row in rows)
    figure = draw_dots(rows, is_share=info.is_share, constant=report.constants.get(metric))
    notes = [f"{info.better} is better"] if info.better else []
    if metric in report.constants:
        notes.append(f"dashed line: {describe_constant(metric)} ({format_number(report.constants[metric])})")
    return ChartPanel(info.title, "; ".join(notes), Markup(render_svg(figure, f"arms-{metric}", f"{info.title}: {description}")))


def _write_conclusions(report: ExperimentReport, defaults: list[GridPoint]) -> Iterator[str]:
    """Write, for each arm against the rival, the metrics that differ, those that are equivalent, and how many cannot be told."""
    for point in defaults:
        parts: list[str] = []
        equivalent: list[str] = []
        inconclusive = 0
        for metric in _list_metrics(report):
            difference = report.paired.get(str(point), {}).get(metric)
            if difference is None or difference.difference is None:
                continue
            if difference.verdict in ("better", "worse", "higher", "lower"):
                parts.append(f"{difference.verdict} on {get_metric_name(metric)} ({format_signed(difference.difference)})")
            elif difference.verdict == "equivalent":
                equivalent.append(f"{get_metric_name(metric)} (margin {format_number(difference.margin)})")
            else:
                inconclusive += 1
        if equivalent:
            parts.append(f"equivalent on {', '.join(equivalent)}")
        if inconclusive:
            parts.append(f"cannot be told on {inconclusive} {'metric' if inconclusive == 1 else 'metrics'}")
        if parts:
            yield f"{get_arm_title(point.arm)} against {get_arm_name(_get_rival_arm(report))}: {'; '.join(parts)}."


def _build_cell(report: ExperimentReport, point: GridPoint, metric: str) -> TableCell:
    difference = report.paired.get(str(point), {}).get(metric)
    if difference is None or difference.difference is None:
        return TableCell(report.means[str(point)][metric], [])
    lines = [f"{format_signed(difference.difference)}, {difference.verdict}"]
    if difference.low is not None:
        lines.append(f"{format_signed(difference.low)} to {format_signed(difference.high)}")
    elif difference.note is not None:
        lines.append(f"no interval: {difference.note}")
    if difference.p is not None:
        lines.append(f"p {format_number(difference.p)}, Holm {format_number(difference.p_holm)}")
    if difference.mde is not None:
        lines.append(f"detectable {format_number(difference.mde)}")
    if difference.margin is not None:
        lines.append(f"margin {format_number(difference.margin)}")
    if difference.gain_percent is not None:
        lines.append(f"gain {format_gain(difference.gain_percent)}")
    return TableCell(report.means[str(point)][metric], lines)


def _format_learning_rates(report: ExperimentReport) -> dict[str, str]:
    """Format the learning rate of each trained grid point: grid point -> rate."""
    rates = {str(row.grid_point): row.learning_rate for row in report.rows}
    return {point: "" if rate is None else f"{rate:g}" for point, rate in rates.items()}


def _describe_fits(report: ExperimentReport) -> Iterator[str]:
    """Describe each fitted curve: its ends, and whether it levels off within the ratios that were tried."""
    for arm, by_metric in report.fits.items():
        for metric, fit in by_metric.items():
            largest = max(row.rho for row in report.rows if row.arm == arm and row.rho is not None)
            reached = float(fit.predict(np.array(largest)))
            level = _MOSTLY_LEVEL * fit.scale
            if level < largest:
                limit = _format_fitted(fit.start + fit.rise)
                trend = f"It levels off toward {limit} and has covered 95{NBSP}% of the way at rho {level:.2g}"
            else:
                trend = f"It does not level off up to rho {largest:g}"
            if metric in _CURVES:
                yield (
                    f"{get_metric(metric).title}, {get_arm_title(arm)}: the fitted curve goes from {_format_fitted(fit.start)} at rho 0 to "
                    f"{_format_fitted(reached)} at rho {largest:g}. {trend} (root mean square error {format_number(fit.error)})."
                )


def _format_fitted(value: float) -> str:
    """Format a point of a fitted curve, which is known to three decimals at best."""
    return format_number(round(value, 3) + 0.0)
