"""The page of an experiment: what people look at first is the dose of diverse rows against what it does."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from delia_ray.evaluation.grid import Place, places, values
from delia_ray.reporting.drawing import Row as Dot
from delia_ray.reporting.drawing import draw_dots
from delia_ray.reporting.experiment_drawing import draw_dose
from delia_ray.reporting.experiment_schema import Findings
from delia_ray.reporting.glossary import arm_name, arm_title, constant_name, meaning, metric_name, metric_words
from delia_ray.reporting.html import Drawing, environment, standalone
from delia_ray.reporting.numerals import gain, number, percent, signed
from delia_ray.reporting.schema import Estimate
from delia_ray.reporting.svg import ARM_COLOURS, inline
from delia_ray.reporting.verdict import KEY_METRICS

_CURVES = ("selectivity", "spill", "format_acc", "no_token", "retention_kl", "label_acc")
"""Drawn over rho for the built-in task, as far as they were measured."""
_COLOUR = {"base": ARM_COLOURS[0], "base_instruction": ARM_COLOURS[0], "it": ARM_COLOURS[1], "delia": ARM_COLOURS[2]}


class Cell(NamedTuple):
    """A place's mean of a metric, and how it differs from the rival's."""

    estimate: Estimate
    lines: list[str]
    """None where nothing is compared."""


def render_experiment(found: Findings) -> str:
    """The page of ``found``."""
    usual = _usual(found)
    page = environment().get_template("experiment.html.j2")
    shown = _metrics(found)
    return page.render(
        found=found,
        doses=list(_doses(found).values()),
        by_arm=[_by_arm(found, usual, metric) for metric in shown],
        verdict=list(_verdict(found, usual)),
        arms=[place.arm for place in usual],
        places=places(found.rows),
        metrics=shown,
        cells={(str(place), metric): _cell(found, place, metric) for place in places(found.rows) for metric in shown},
        meanings={metric: meaning(metric, found.config["task"]["token"]) for metric in shown},
        rates=_rates(found),
        fits=list(_fits(found)),
        gains=found.gains if any(len(sizes) > 1 for each in found.gains.values() for sizes in each.values()) else {},
    )


def experiment_figures(found: Findings) -> dict[str, str]:
    """Name -> SVG of its own, for what the page draws."""
    by_arm = {f"arms-{metric}": _by_arm(found, _usual(found), metric) for metric in _metrics(found)}
    return {name: standalone(drawing.svg) for name, drawing in {**_doses(found), **by_arm}.items()}


def _metrics(found: Findings) -> list[str]:
    """The key ones first; those that were measured at all."""
    measured = list(dict.fromkeys(metric for row in found.rows for metric, value in row.metrics.items() if value is not None))
    return [*(metric for metric in KEY_METRICS if metric in measured), *(metric for metric in measured if metric not in KEY_METRICS)]


def _usual(found: Findings) -> list[Place]:
    """Each arm at its own ratio and size, which comes first."""
    firsts: dict[str, Place] = {}
    for place in places(found.rows):
        firsts.setdefault(place.arm, place)
    return list(firsts.values())


def _doses(found: Findings) -> dict[str, Drawing]:
    """Name -> panel, for each metric of each arm that was trained at three ratios or more."""
    panels: dict[str, Drawing] = {}
    for arm in dict.fromkeys(row.arm for row in found.rows):
        first = next(row for row in found.rows if row.arm == arm)
        doses = [place for place in places(found.rows) if place.arm == arm and place.n == first.n and place.rho is not None]
        if len(doses) < 3:
            continue
        measured = _metrics(found)
        for metric in [metric for metric in _CURVES if metric in measured] or measured:
            panels[f"dose-{arm}-{metric}"] = _dose(found, arm, doses, metric)
    return panels


def _dose(found: Findings, arm: str, doses: list[Place], metric: str) -> Drawing:
    words = metric_words(metric)
    means = {place.rho or 0.0: found.means[str(place)][metric] for place in doses}
    seeds = {place.rho or 0.0: list(values(found.rows, place, metric).values()) for place in doses}
    fit = found.fits.get(arm, {}).get(metric)
    show = percent if words.is_share else number
    spoken = "; ".join(f"rho {rho:g}: {show(means[rho].value)}" for rho in sorted(means))
    figure = draw_dose(means, seeds, fit, _COLOUR.get(arm, ARM_COLOURS[3]), is_share=words.is_share)
    better = f"{(words.better or '').capitalize()} is better." if words.better else ""
    title = words.title if arm == "delia" else f"{words.title}, {arm_title(arm)}"
    return Drawing(title, better, Markup(inline(figure, f"dose-{arm}-{metric}", f"{title}. {spoken}")))


def _by_arm(found: Findings, usual: list[Place], metric: str) -> Drawing:
    words = metric_words(metric)
    rows = [Dot(arm_title(place.arm), found.means[str(place)][metric], _COLOUR.get(place.arm, ARM_COLOURS[3])) for place in usual]
    spoken = "; ".join(f"{row.label} {number(row.value)}" for row in rows)
    svg = inline(draw_dots(rows, is_share=words.is_share, floor=found.constants.get(metric)), f"arms-{metric}", f"{words.title}: {spoken}")
    notes = [f"{words.better} is better"] if words.better else []
    if metric in found.constants:
        notes.append(f"dashed: {constant_name(metric)}, {number(found.constants[metric])}")
    return Drawing(words.title, "; ".join(notes), Markup(svg))


def _verdict(found: Findings, usual: list[Place]) -> Iterator[str]:
    """For each arm against the rival, the metrics that can be told apart, those that are equivalent, and how many cannot be told."""
    for place in usual:
        told: list[str] = []
        equivalent: list[str] = []
        open_ones = 0
        for metric in _metrics(found):
            difference = found.paired.get(str(place), {}).get(metric)
            if difference is None or difference.difference is None:
                continue
            if difference.verdict in ("better", "worse", "higher", "lower"):
                told.append(f"{difference.verdict} on {metric_name(metric)} ({signed(difference.difference)})")
            elif difference.verdict == "equivalent":
                equivalent.append(f"{metric_name(metric)} (margin {number(difference.margin)})")
            else:
                open_ones += 1
        if equivalent:
            told.append(f"equivalent on {', '.join(equivalent)}")
        if open_ones:
            told.append(f"on {open_ones} {'metric' if open_ones == 1 else 'metrics'} it cannot be told")
        if told:
            yield f"{arm_title(place.arm)} against {arm_name(found.rival.split(',')[0])}: {'; '.join(told)}."


def _cell(found: Findings, place: Place, metric: str) -> Cell:
    difference = found.paired.get(str(place), {}).get(metric)
    if difference is None or difference.difference is None:
        return Cell(found.means[str(place)][metric], [])
    lines = [f"{signed(difference.difference)}, {difference.verdict}"]
    if difference.low is not None:
        lines.append(f"{signed(difference.low)} to {signed(difference.high)}")
    elif difference.note is not None:
        lines.append(f"no interval: {difference.note}")
    if difference.p is not None:
        lines.append(f"p {number(difference.p)}, Holm {number(difference.p_holm)}")
    if difference.mde is not None:
        lines.append(f"detectable {number(difference.mde)}")
    if difference.margin is not None:
        lines.append(f"margin {number(difference.margin)}")
    if difference.gain_percent is not None:
        lines.append(f"gain {gain(difference.gain_percent)}")
    return Cell(found.means[str(place)][metric], lines)


def _rates(found: Findings) -> dict[str, str]:
    """Place -> the learning rate it was trained with."""
    rates = {str(row.place): row.learning_rate for row in found.rows}
    return {place: "" if rate is None else f"{rate:g}" for place, rate in rates.items()}


def _fits(found: Findings) -> Iterator[str]:
    for arm, fitted in found.fits.items():
        for metric, fit in fitted.items():
            largest = max(row.rho for row in found.rows if row.arm == arm and row.rho is not None)
            reached = float(fit.at(np.array(largest)))
            if fit.scale < largest:
                ends = f"levelling off: two thirds of the way to {_thousandths(fit.start + fit.rise)} by rho {fit.scale:.2g}"
            else:
                ends = f"not levelling off by rho {largest:g}"
            if metric in _CURVES:
                yield (
                    f"{metric_words(metric).title} of {arm_name(arm)}: from {_thousandths(fit.start)} to {_thousandths(reached)}, {ends} "
                    f"(root mean square error {number(fit.error)})"
                )


def _thousandths(fitted: float) -> str:
    """A point of a fitted curve, which is known no better."""
    return number(round(fitted, 3) + 0.0)
