"""Page of the gradient probe: each prediction of the theory with its outcome, charts and numbers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from delia_ray.core.artifacts import Artifact
from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.probing.predictions.schema import PREDICTIONS, ArmDifference, Prediction, ProbeReport
from delia_ray.reporting.charts.charts import ChartRow, draw_dots
from delia_ray.reporting.charts.gradient_charts import Curve, draw_intervals
from delia_ray.reporting.charts.svg import ARM_COLORS, render_svg
from delia_ray.reporting.html import ChartPanel, build_environment
from delia_ray.reporting.schema import FIRST_ARMS
from delia_ray.reporting.wording.formatting import format_number
from delia_ray.reporting.wording.glossary import get_arm_title, get_metric

_SET_TITLES = {"own": "Own, T = 1", "pool": "Pool", "foreign": "Others'", "task": "Task"}
_COLORS = {"own": ARM_COLORS[3], "pool": ARM_COLORS[2], "foreign": ARM_COLORS[1], "task": ARM_COLORS[0]}
_STEP_AXIS = "step length / norm of the weights"


class TableLine(NamedTuple):
    """A quantity in a section's table."""

    name: str
    interval: Interval


class Section(NamedTuple):
    """A prediction with its outcome, charts and table."""

    key: str
    statement: str
    prediction: Prediction
    panels: list[ChartPanel]
    lines: list[TableLine]
    note: str


def render_probe(probe: Artifact) -> dict[str, str]:
    """Render the page of a finished ``probe``: file name -> text."""
    return {"probe.html": render_probe_page(ProbeReport.model_validate_json((probe.fetch("probe.json")).read_text(encoding="utf-8")))}


def render_probe_page(findings: ProbeReport) -> str:
    """Render the page of ``findings``; every number of its tables has its full value in ``data-value``."""
    parts = {
        "P1": _build_p1(findings),
        "P2": _build_p2(findings),
        "P3": _build_p3(findings),
        "P4": _build_p4(findings),
        "P5": _build_p5(findings),
    }
    sections = [Section(key, PREDICTIONS[key], findings.predictions[key], *part) for key, part in parts.items()]
    template = build_environment().get_template("probe.html.j2")
    measured = findings.measured
    return template.render(
        report=findings, facts=measured.facts, arms=measured.arms, sections=sections, layer_panels=_build_layer_panels(findings)
    )


_Part = tuple[list[ChartPanel], list[TableLine], str]
"""Panels, table and note of a section."""


def _build_p1(findings: ProbeReport) -> _Part:
    norms, foreign = findings.measured.norms, findings.measured.facts.foreign
    plain = [ChartRow(_SET_TITLES[name], norms[name].plain, _COLORS[name]) for name in norms]
    corrected = [ChartRow(_SET_TITLES[name], norms[name].corrected, _COLORS[name]) for name in norms]
    panels = [
        _build_dots("Gradient norm, without sampling noise", "Estimated from pairs of different rows.", corrected, "p1-corrected"),
        _build_dots("Plain gradient norm", "Norm of the mean gradient, with sampling noise.", plain, "p1-plain"),
    ]
    lines = [TableLine(f"{_SET_TITLES[name]}: norm without sampling noise", each.corrected) for name, each in norms.items()]
    lines += [TableLine(f"{_SET_TITLES[name]}: plain norm", each.plain) for name, each in norms.items()]
    lines.append(TableLine("Others' minus own, squared, same queries", findings.measured.foreign_minus_own))
    others = "the pool's answers to other queries (shuffled)" if foreign == "shuffled" else "the answers of the given file"
    note = (
        f"Own: answers sampled at temperature T = 1 from the whole distribution, up to {findings.measured.facts.answer_tokens} tokens; the "
        "theory expects a gradient of 0 for these alone. Pool: the diverse rows as they are trained on, whose answers were sampled "
        f"differently. Others': {others}. Task: the task rows."
    )
    return panels, lines, note


def _build_p2(findings: ProbeReport) -> _Part:
    steps = findings.measured.steps
    lengths = [step.length for step in steps]
    cosines = {"cosine": Curve([step.cosine for step in steps], _COLORS["own"])}
    pulls = {
        "measured": Curve([step.pull for step in steps], _COLORS["own"]),
        "predicted": Curve([step.predicted for step in steps], ARM_COLORS[0]),
    }
    panels = [
        _build_curves("Cosine with the task's gradient", "Below 0, the diverse rows resist.", lengths, cosines, _STEP_AXIS, "p2-cosine"),
        _build_curves("Force back along the step", "Green: measured. Gray: first-order prediction.", lengths, pulls, _STEP_AXIS, "p2-pull"),
    ]
    lines = [TableLine(f"Cosine after a step of {step.length:g}", step.cosine) for step in steps]
    lines.append(TableLine("Cosine after the longest step minus cosine after the shortest", findings.measured.cosine_change))
    for step in steps:
        lines += [
            TableLine(f"Force back after a step of {step.length:g}", step.pull),
            TableLine("First-order prediction of it", step.predicted),
        ]
    note = (
        "Gradient of the loss on own answers, after one step down the task's gradient. The force back is the part of it that points back "
        "along the step, per token."
    )
    return panels, lines, note


def _build_p3(findings: ProbeReport) -> _Part:
    measured = findings.measured
    along = [ChartRow(_format_arm(findings, arm), each.along, _get_arm_color(findings, arm)) for arm, each in measured.updates.items()]
    share = [ChartRow(_format_arm(findings, arm), each.share, _get_arm_color(findings, arm)) for arm, each in measured.updates.items()]
    panels = [
        _build_dots("Norm along the top eigenvectors", "Of the update: tuned minus base weights.", along, "p3-along"),
        _build_dots("Share of the update's norm", "The same, divided by the whole update's norm.", share, "p3-share"),
    ]
    lines = [
        TableLine(f"{_format_arm(findings, arm)}: norm along the top eigenvectors", each.along) for arm, each in measured.updates.items()
    ]
    lines += [TableLine(f"{_format_arm(findings, arm)}: share of the update's norm", each.share) for arm, each in measured.updates.items()]
    lines += _build_change_lines(findings, "norm", measured.along) + _build_change_lines(findings, "share", measured.share)
    lines += [TableLine(f"Eigenvalue {rank}", each) for rank, each in enumerate(measured.eigenvalues, start=1)]
    vectors = len(measured.eigenvalues)
    chance = (vectors / measured.facts.coordinates) ** 0.5
    norms = "; ".join(f"{_format_arm(findings, arm)}: {format_number(each.chosen)}" for arm, each in measured.updates.items())
    note = (
        f"The top {'eigenvector' if vectors == 1 else f'{vectors} eigenvectors'} of the Fisher matrix of {measured.facts.fisher_rows} of "
        f"the diverse rows, found with {measured.facts.products} products with the matrix; residuals are at most "
        f"{format_number(max(measured.facts.residuals))} of the largest eigenvalue. A random direction would have a share of about "
        f"{format_number(chance)}. Norms of the whole updates: {norms}."
    )
    return panels, lines, note


def _build_p4(findings: ProbeReport) -> _Part:
    measured = findings.measured
    rows = [ChartRow(_format_arm(findings, arm), each, _get_arm_color(findings, arm)) for arm, each in measured.divergences.items()]
    panels = [_build_dots("KL divergence from the base model", "Nats per token, along the pool's answers.", rows, "p4")] if rows else []
    lines = [
        TableLine(f"{_format_arm(findings, arm)}: KL divergence from the base model", each) for arm, each in measured.divergences.items()
    ]
    held_out = max((each.n for each in measured.divergences.values()), default=0)
    note = f"Over {held_out} diverse rows that no arm was trained on; exact over the vocabulary at each token."
    return panels, lines + _build_change_lines(findings, "KL divergence", measured.diverged), note if rows else ""


def _build_p5(findings: ProbeReport) -> _Part:
    panels, lines = list[ChartPanel](), list[TableLine]()
    for metric, values in findings.scores.items():
        info = get_metric(metric)
        rows = [ChartRow(_format_arm(findings, arm), each, _get_arm_color(findings, arm)) for arm, each in values.items()]
        svg = render_svg(draw_dots(rows, is_share=info.is_share, constant=None), f"p5-{metric}", _describe_rows(info.title, rows))
        panels.append(ChartPanel(info.title, info.meaning.replace("TOKEN", "the token"), Markup(svg)))
        lines += [TableLine(f"{info.title}: {_format_arm(findings, arm)}", each) for arm, each in values.items()]
        lines += _build_change_lines(findings, info.title, findings.scored.get(metric, []))
    return panels, lines, "From the scores of the finished models." if panels else ""


def _build_layer_panels(findings: ProbeReport) -> list[ChartPanel]:
    layers = findings.measured.layers
    numbers = list(range(len(layers)))
    cosines = {"cosine": Curve([layer.cosine for layer in layers], _COLORS["pool"])}
    norms = {
        "task": Curve([_make_exact(layer.task_norm) for layer in layers], _COLORS["task"]),
        "diverse": Curve([_make_exact(layer.diverse_norm) for layer in layers], _COLORS["pool"]),
    }
    return [
        _build_curves("Cosine of task and pool gradients", "Above 0, they agree.", numbers, cosines, "layer", "layers-cosine"),
        _build_curves("Norms of the gradients", "Gray: task. Blue: pool, with sampling noise.", numbers, norms, "layer", "layers-norm"),
    ]


def _build_change_lines(findings: ProbeReport, name: str, changes: Sequence[ArmDifference]) -> list[TableLine]:
    return [
        TableLine(
            f"Change of {name} from {_format_arm(findings, each.fewer)} to {_format_arm(findings, each.more)}",
            Interval(each.difference, each.low, each.high, 0, note=each.note),
        )
        for each in changes
    ]


def _format_arm(findings: ProbeReport, arm: str) -> str:
    return f"{get_arm_title(arm)}, \N{GREEK SMALL LETTER RHO} = {findings.measured.arms[arm].ratio:g}"


def _get_arm_color(findings: ProbeReport, arm: str) -> str:
    """Return the arm's color, the same as on the run's page."""
    if arm in FIRST_ARMS:
        return ARM_COLORS[FIRST_ARMS.index(arm)]
    others = [each for each in findings.measured.arms if each not in FIRST_ARMS]
    known = len(FIRST_ARMS)
    return ARM_COLORS[known + others.index(arm) % (len(ARM_COLORS) - known)]


def _build_dots(heading: str, note: str, rows: Sequence[ChartRow], name: str) -> ChartPanel:
    svg = render_svg(draw_dots(rows, is_share=False, constant=None), name, _describe_rows(heading, rows))
    return ChartPanel(heading, note, Markup(svg))


def _build_curves(heading: str, note: str, positions: Sequence[float], curves: Mapping[str, Curve], axis: str, name: str) -> ChartPanel:
    ends = "; ".join(
        f"{label} from {format_number(curve.values[0].value)} to {format_number(curve.values[-1].value)}" for label, curve in curves.items()
    )
    figure = draw_intervals(positions, curves, axis, logarithmic=axis != "layer", both=name == "p2-pull" and _is_positive(curves))
    return ChartPanel(heading, note, Markup(render_svg(figure, name, f"{heading}, by {axis}: {ends}")))


def _is_positive(curves: Mapping[str, Curve]) -> bool:
    return all((each.low or 0.0) > 0 for curve in curves.values() for each in curve.values)


def _describe_rows(heading: str, rows: Sequence[ChartRow]) -> str:
    return f"{heading}: " + "; ".join(f"{row.label}: {format_number(row.value)}" for row in rows)


def _make_exact(value: float) -> Interval:
    return Interval(value, value, value, 0)
