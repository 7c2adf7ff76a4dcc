"""Page of a run: scores of all arms, their comparison, training loss, examples and lineage."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from markupsafe import Markup

from delia_ray.core.artifacts import Artifact
from delia_ray.reporting.charts.figures import Chart, draw_loss_charts, draw_metric_charts, draw_token_charts
from delia_ray.reporting.html import ChartPanel, build_environment
from delia_ray.reporting.pages.diversity_page import describe_sampling, draw_measures
from delia_ray.reporting.schema import BUILTIN_METRICS, RunReport
from delia_ray.reporting.wording.formatting import format_number
from delia_ray.reporting.wording.glossary import describe_constant, get_arm_title, get_metric
from delia_ray.reporting.wording.headline import has_token_figure, label_probes, write_metric_headline, write_token_headline


@dataclass(frozen=True)
class _FirstFigure:
    headline: str
    panels: list[ChartPanel]
    legend: str
    """Meaning of a bar or a dot."""
    metrics: dict[str, str]
    """Metric -> its label in the figure."""


def render_report(report: Artifact) -> dict[str, str]:
    """Render the page of a finished ``report``: file name -> text."""
    return {"report.html": render_report_page(RunReport.model_validate_json((report.fetch("report.json")).read_text(encoding="utf-8")))}


def render_report_page(report: RunReport) -> str:
    """Render the page of ``report``, which must have its conclusions (``conclusions.add_conclusions``).

    Every number of the metrics table has its full value in ``data-value``.
    """
    assert report.verdict, "add the conclusions (Report.verdict) before the page is rendered"
    first_figure = _build_first_figure(report)
    measured = [metric for metric in report.list_metrics() if any(report.get_value(arm, metric) is not None for arm in report.arms)]
    template = build_environment().get_template("report.html.j2")
    return template.render(
        report=report,
        run=report.run,
        arms=report.list_arms(),
        metrics=report.list_metrics(),
        pairs=report.list_pairs(),
        first_figure=first_figure,
        metric_panels=_build_metric_panels(report, [metric for metric in measured if metric not in first_figure.metrics]),
        loss_panels=[_build_panel(chart, f"Loss on {chart.name} rows", "") for chart in draw_loss_charts(report)],
        diversity_panels=draw_measures(report.diversity) if report.diversity else [],
        describe_sampling=describe_sampling,
        paths={node.fingerprint: path for path, node in reversed(report.lineage.items())},
        config=yaml.safe_dump(report.run.config, sort_keys=False, allow_unicode=True) if report.run.config else "",
        command=shlex.join(report.run.command),
    )


def _build_first_figure(report: RunReport) -> _FirstFigure:
    if has_token_figure(report):
        panels = [_build_panel(chart, get_arm_title(chart.name), "") for chart in draw_token_charts(report)]
        legend = "A bar is the share of answers in exactly the format that the task asks for"
        return _FirstFigure(write_token_headline(report), panels, legend, label_probes(report))
    names = report.list_metrics()
    main = [metric for metric in names if metric not in BUILTIN_METRICS] or names[:1]
    headline = write_metric_headline(report, main[0]) if main else "Nothing was measured"
    titles = {metric: get_metric(metric).title for metric in main}
    return _FirstFigure(headline, _build_metric_panels(report, main), "A dot is an arm's value", titles)


def _build_metric_panels(report: RunReport, metrics: Sequence[str]) -> list[ChartPanel]:
    panels: list[ChartPanel] = []
    for chart in draw_metric_charts(report, metrics):
        info = get_metric(chart.name)
        notes = [f"{info.better} is better"] if info.better else []
        if chart.name in report.constants:
            notes.append(f"dashed line: {describe_constant(chart.name)} ({format_number(report.constants[chart.name])})")
        panels.append(_build_panel(chart, info.title, "; ".join(notes)))
    return panels


def _build_panel(chart: Chart, heading: str, note: str) -> ChartPanel:
    return ChartPanel(heading, note, Markup(chart.svg))
