"""The page's figures: small panels that the page lays out side by side, or stacked on a phone."""

from collections.abc import Sequence
from typing import NamedTuple

from delia_ray.reporting.drawing import Row, Series, draw_bars, draw_curves, draw_dots
from delia_ray.reporting.finding import probe_labels
from delia_ray.reporting.glossary import arm_title, metric_words
from delia_ray.reporting.numerals import number, percent
from delia_ray.reporting.schema import FIRST_ARMS, CurvePoint, Report
from delia_ray.reporting.svg import ARM_COLOURS, inline


class Panel(NamedTuple):
    """One small drawing."""

    name: str
    """An arm, a metric, or a group of rows."""
    svg: str
    description: str
    """What the drawing shows, in words; also the SVG's label."""


def token_panels(report: Report) -> list[Panel]:
    """For each arm, the rate at which it writes the format when the token asks, when plain words ask, when nobody asks."""
    panels: list[Panel] = []
    for index, (arm, colour) in enumerate(_colours(report).items()):
        rows = [Row(label, report.arms[arm].get(probe), colour) for probe, label in probe_labels(report).items()]
        description = f"{arm_title(arm)}, share of answers in the format. {_spoken(rows, is_share=True)}"
        panels.append(Panel(arm, inline(draw_bars(rows), f"token-{index}", description), description))
    return panels


def metric_panels(report: Report, metrics: Sequence[str]) -> list[Panel]:
    """For each metric, every arm's value with its interval, and the best constant answer's where there is one."""
    panels: list[Panel] = []
    for index, metric in enumerate(metrics):
        rows = [Row(arm_title(arm), report.arms[arm].get(metric), colour) for arm, colour in _colours(report).items()]
        words = metric_words(metric)
        description = f"{words.title}. {_spoken(rows, is_share=words.is_share)}"
        drawing = draw_dots(rows, is_share=words.is_share, floor=report.constants.get(metric))
        panels.append(Panel(metric, inline(drawing, f"metric-{index}", description), description))
    return panels


def curve_panels(report: Report) -> list[Panel]:
    """The loss on task rows and on diverse rows by step, for each arm that trained on any."""
    panels: list[Panel] = []
    for group in ("task", "diverse"):
        series = {arm: points for arm in report.arm_names() if (points := _losses(report.curves.get(arm, []), group))}
        if series:
            ends = [f"{arm_title(arm)} from {number(points[0][1])} to {number(points[-1][1])}" for arm, points in series.items()]
            description = f"Loss on {group} rows by training step: {'; '.join(ends)}."
            panels.append(Panel(group, inline(draw_curves(series, _colours(report)), f"curve-{group}", description), description))
    return panels


def _colours(report: Report) -> dict[str, str]:
    return arm_colours(report.arm_names())


def arm_colours(arms: Sequence[str]) -> dict[str, str]:
    """Arm -> stand-in colour: the same in every figure, and for the usual arms the same in every run."""
    known, spare = len(FIRST_ARMS), len(ARM_COLOURS) - len(FIRST_ARMS)
    others = [arm for arm in arms if arm not in FIRST_ARMS]
    places = {arm: place for place, arm in enumerate(FIRST_ARMS)} | {arm: known + i % spare for i, arm in enumerate(others)}
    return {arm: ARM_COLOURS[places[arm]] for arm in arms}


def _losses(points: Sequence[CurvePoint], group: str) -> Series:
    losses = [(point.step, point.task_loss if group == "task" else point.diverse_loss) for point in points]
    return [(step, loss) for step, loss in losses if loss is not None]


def _spoken(rows: Sequence[Row], *, is_share: bool) -> str:
    show = percent if is_share else number
    parts: list[str] = []
    for row in rows:
        between = f", {show(row.estimate.low)} to {show(row.estimate.high)}" if row.estimate and row.estimate.low is not None else ""
        parts.append(f"{row.label}: {show(row.value)}{between}.")
    return " ".join(parts)
