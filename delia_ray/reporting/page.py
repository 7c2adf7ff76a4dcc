"""The run's page: one HTML file that needs nothing beside it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from markupsafe import Markup

from delia_ray.reporting import glossary, numerals
from delia_ray.reporting.figures import Panel, curve_panels, metric_panels, token_panels
from delia_ray.reporting.finding import has_token_figure, metric_finding, probe_labels, token_finding
from delia_ray.reporting.html import Drawing, environment
from delia_ray.reporting.pool import measure_drawings, sampling
from delia_ray.reporting.schema import BUILTIN_METRICS, Report


@dataclass(frozen=True)
class _FirstFigure:
    finding: str
    drawings: list[Drawing]
    measure: str
    """What a bar or a dot stands for."""
    metrics: dict[str, str]
    """The metrics it shows, each under the name it has there."""


def render(report: Report) -> str:
    """The page for ``report``, whose verdicts must have been filled in (``verdict.judged``).

    Every number of the metrics table carries its full value in ``data-value``.
    """
    assert report.verdict, "fill in Report.verdict before the page is rendered"
    first = _first_figure(report)
    measured = [metric for metric in report.metric_names() if any(report.value(arm, metric) is not None for arm in report.arms)]
    page = environment().get_template("report.html.j2")
    return page.render(
        report=report,
        run=report.run,
        arms=report.arm_names(),
        metrics=report.metric_names(),
        pairs=report.pairs(),
        first=first,
        others=_metric_drawings(report, [metric for metric in measured if metric not in first.metrics]),
        curves=[_drawing(panel, f"Loss on {panel.name} rows", "") for panel in curve_panels(report)],
        pool=measure_drawings(report.diversity) if report.diversity else [],
        sampling=sampling,
        named={link.fingerprint: path for path, link in reversed(report.lineage.items())},
        config=yaml.safe_dump(report.run.config, sort_keys=False, allow_unicode=True) if report.run.config else "",
        command=shlex.join(report.run.command),
    )


def _first_figure(report: Report) -> _FirstFigure:
    if has_token_figure(report):
        drawings = [_drawing(panel, glossary.arm_title(panel.name), "") for panel in token_panels(report)]
        measure = "A bar is the share of answers in exactly the task's format"
        return _FirstFigure(token_finding(report), drawings, measure, probe_labels(report))
    names = report.metric_names()
    leading = [metric for metric in names if metric not in BUILTIN_METRICS] or names[:1]
    finding = metric_finding(report, leading[0]) if leading else "Nothing was measured"
    titles = {metric: glossary.metric_words(metric).title for metric in leading}
    return _FirstFigure(finding, _metric_drawings(report, leading), "A dot is an arm's value", titles)


def _metric_drawings(report: Report, metrics: Sequence[str]) -> list[Drawing]:
    drawings: list[Drawing] = []
    for panel in metric_panels(report, metrics):
        words = glossary.metric_words(panel.name)
        notes = [f"{words.better} is better"] if words.better else []
        if panel.name in report.constants:
            notes.append(f"dashed: {glossary.constant_name(panel.name)}, {numerals.number(report.constants[panel.name])}")
        drawings.append(_drawing(panel, words.title, "; ".join(notes)))
    return drawings


def _drawing(panel: Panel, heading: str, note: str) -> Drawing:
    return Drawing(heading, note, Markup(panel.svg))
