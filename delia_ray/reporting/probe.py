"""The page of a run's gradients: how the theory's predictions fared."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.probing.findings import PREDICTIONS, Change, Findings, Prediction
from delia_ray.reporting.drawing import Row, draw_dots
from delia_ray.reporting.glossary import arm_title, metric_words
from delia_ray.reporting.html import Drawing, environment
from delia_ray.reporting.numerals import number, signed
from delia_ray.reporting.probe_drawing import Curve, draw_intervals
from delia_ray.reporting.schema import FIRST_ARMS, Estimate
from delia_ray.reporting.svg import ARM_COLOURS, inline

_SETS = {"own": "Own, T = 1", "pool": "Pool", "foreign": "Others'", "task": "Task"}
_COLOURS = {"own": ARM_COLOURS[3], "pool": ARM_COLOURS[2], "foreign": ARM_COLOURS[1], "task": ARM_COLOURS[0]}


class Line(NamedTuple):
    """A quantity of the table."""

    name: str
    interval: Interval


class Section(NamedTuple):
    """One prediction: what it says, how it fared, figures and numbers."""

    key: str
    statement: str
    prediction: Prediction
    drawings: list[Drawing]
    lines: list[Line]
    note: str


def render_probe(found: Findings) -> str:
    """The page for what was found; every number of its tables carries its full value in ``data-value``."""
    parts = {"P1": _p1(found), "P2": _p2(found), "P3": _p3(found), "P4": _p4(found), "P5": _p5(found)}
    sections = [Section(key, PREDICTIONS[key], found.predictions[key], *part) for key, part in parts.items()]
    page = environment().get_template("probe.html.j2")
    return page.render(found=found, facts=found.measured.facts, arms=found.measured.arms, sections=sections, layers=_layers(found))


_Part = tuple[list[Drawing], list[Line], str]


def _p1(found: Findings) -> _Part:
    norms, foreign = found.measured.norms, found.measured.facts.foreign
    plain = [Row(_SETS[name], Estimate.of(norms[name].plain), _COLOURS[name]) for name in norms]
    corrected = [Row(_SETS[name], Estimate.of(norms[name].corrected), _COLOURS[name]) for name in norms]
    drawings = [
        _dots("Without sampling noise", "Estimated from pairs of different rows.", corrected, "p1-corrected"),
        _dots("As it comes", "The plain norm of the mean over so few rows.", plain, "p1-plain"),
    ]
    lines = [Line(f"{_SETS[name]}: norm without sampling noise", each.corrected) for name, each in norms.items()]
    lines += [Line(f"{_SETS[name]}: plain norm", each.plain) for name, each in norms.items()]
    lines.append(Line("Others' minus own, squared, same queries", found.measured.foreign_minus_own))
    others = "the pool's answers to other queries (shuffled)" if foreign == "shuffled" else "those of the given file"
    note = (
        f"Own: drawn at temperature 1 from the whole distribution, up to {found.measured.facts.answer_tokens} tokens; only for these does "
        f"theory expect 0. Pool: the diverse rows as they are trained on, drawn another way. Others': {others}. Task: the rows to learn."
    )
    return drawings, lines, note


def _p2(found: Findings) -> _Part:
    steps = found.measured.steps
    places = [step.length for step in steps]
    cosines = {"cosine": Curve([step.cosine for step in steps], _COLOURS["own"])}
    pulls = {
        "measured": Curve([step.pull for step in steps], _COLOURS["own"]),
        "predicted": Curve([step.predicted for step in steps], ARM_COLOURS[0]),
    }
    axis = "step, as a share of the weights' norm"
    drawings = [
        _curves("Cosine with the task's gradient", "Below 0, the diverse rows resist.", places, cosines, axis, "p2-cosine"),
        _curves("Force back along the step", "Green: measured. Grey: to first order.", places, pulls, axis, "p2-pull"),
    ]
    lines = [Line(f"Cosine after a step of {step.length:g}", step.cosine) for step in steps]
    lines.append(Line("Cosine at the longest minus at the shortest", found.measured.cosine_change))
    for step in steps:
        lines += [Line(f"Force after a step of {step.length:g}", step.pull), Line("the same to first order", step.predicted)]
    note = "The gradient of own answers after one step down the task's; the force is what it has against that step, for each token."
    return drawings, lines, note


def _p3(found: Findings) -> _Part:
    measured = found.measured
    along = [Row(_arm(found, arm), Estimate.of(each.along), _arm_colour(found, arm)) for arm, each in measured.updates.items()]
    share = [Row(_arm(found, arm), Estimate.of(each.share), _arm_colour(found, arm)) for arm, each in measured.updates.items()]
    drawings = [
        _dots("Norm along the top eigenvectors", "Of the update, theta minus theta0.", along, "p3-along"),
        _dots("Share of the update's norm", "The same over the whole update's norm.", share, "p3-share"),
    ]
    lines = [Line(f"{_arm(found, arm)}: norm along the top eigenvectors", each.along) for arm, each in measured.updates.items()]
    lines += [Line(f"{_arm(found, arm)}: share of the update's norm", each.share) for arm, each in measured.updates.items()]
    lines += _changes(found, "norm", measured.along) + _changes(found, "share", measured.share)
    lines += [Line(f"Eigenvalue {place}", each) for place, each in enumerate(measured.eigenvalues, start=1)]
    chance = (len(measured.eigenvalues) / measured.facts.coordinates) ** 0.5
    whole = "; ".join(f"{_arm(found, arm)} {number(each.chosen)}" for arm, each in measured.updates.items())
    note = (
        f"The {len(measured.eigenvalues)} top eigenvectors of the Fisher matrix of {measured.facts.fisher_rows} of the rows, found with "
        f"{measured.facts.products} products; residuals are up to {number(max(measured.facts.residuals))} of the largest eigenvalue. "
        f"A random direction would have a share of about {number(chance)}. Norms of the updates: {whole}."
    )
    return drawings, lines, note


def _p4(found: Findings) -> _Part:
    measured = found.measured
    rows = [Row(_arm(found, arm), Estimate.of(each), _arm_colour(found, arm)) for arm, each in measured.divergences.items()]
    drawings = [_dots("KL from the start model", "Nats a token, along the pool's answers.", rows, "p4")] if rows else []
    lines = [Line(f"{_arm(found, arm)}: KL from the start model", each) for arm, each in measured.divergences.items()]
    held_out = max((each.n for each in measured.divergences.values()), default=0)
    note = f"Over {held_out} diverse rows that no arm was trained on; exact over the vocabulary at each token."
    return drawings, lines + _changes(found, "KL", measured.diverged), note if rows else ""


def _p5(found: Findings) -> _Part:
    drawings, lines = list[Drawing](), list[Line]()
    for metric, values in found.scores.items():
        words = metric_words(metric)
        rows = [Row(_arm(found, arm), Estimate.of(each), _arm_colour(found, arm)) for arm, each in values.items()]
        svg = inline(draw_dots(rows, is_share=words.is_share, floor=None), f"p5-{metric}", _spoken(words.title, rows))
        drawings.append(Drawing(words.title, words.meaning.replace("TOKEN", "the token"), Markup(svg)))
        lines += [Line(f"{words.title}: {_arm(found, arm)}", each) for arm, each in values.items()]
        lines += _changes(found, words.title, found.scored.get(metric, []))
    return drawings, lines, "From the scores of the finished models." if drawings else ""


def _layers(found: Findings) -> list[Drawing]:
    layers = found.measured.layers
    places = list(range(len(layers)))
    cosines = {"cosine": Curve([layer.cosine for layer in layers], _COLOURS["pool"])}
    norms = {
        "task": Curve([_exact(layer.task_norm) for layer in layers], _COLOURS["task"]),
        "diverse": Curve([_exact(layer.diverse_norm) for layer in layers], _COLOURS["pool"]),
    }
    return [
        _curves("Cosine of task and pool gradients", "Above 0 they ask for the same.", places, cosines, "layer", "layers-cosine"),
        _curves("Norms of the gradients", "Grey: task. Blue: pool, with sampling noise.", places, norms, "layer", "layers-norm"),
    ]


def _changes(found: Findings, name: str, changes: Sequence[Change]) -> list[Line]:
    return [
        Line(
            f"Change of {name} from {_arm(found, each.fewer)} to {_arm(found, each.more)}",
            Interval(each.difference, each.low, each.high, 0, note=each.note),
        )
        for each in changes
    ]


def _arm(found: Findings, arm: str) -> str:
    return f"{arm_title(arm)}, \N{GREEK SMALL LETTER RHO} = {found.measured.arms[arm].ratio:g}"


def _arm_colour(found: Findings, arm: str) -> str:
    """As on the run's page."""
    if arm in FIRST_ARMS:
        return ARM_COLOURS[FIRST_ARMS.index(arm)]
    others = [each for each in found.measured.arms if each not in FIRST_ARMS]
    known = len(FIRST_ARMS)
    return ARM_COLOURS[known + others.index(arm) % (len(ARM_COLOURS) - known)]


def _dots(heading: str, note: str, rows: Sequence[Row], name: str) -> Drawing:
    return Drawing(heading, note, Markup(inline(draw_dots(rows, is_share=False, floor=None), name, _spoken(heading, rows))))


def _curves(heading: str, note: str, places: Sequence[float], curves: Mapping[str, Curve], axis: str, name: str) -> Drawing:
    ends = "; ".join(f"{label} from {number(curve.values[0].value)} to {number(curve.values[-1].value)}" for label, curve in curves.items())
    figure = draw_intervals(places, curves, axis, logarithmic=axis != "layer", both=name == "p2-pull" and _all_positive(curves))
    return Drawing(heading, note, Markup(inline(figure, name, f"{heading}, by {axis}: {ends}")))


def _all_positive(curves: Mapping[str, Curve]) -> bool:
    return all((each.low or 0.0) > 0 for curve in curves.values() for each in curve.values)


def _spoken(heading: str, rows: Sequence[Row]) -> str:
    return f"{heading}: " + "; ".join(f"{row.label} {signed(row.value) if (row.value or 0) < 0 else number(row.value)}" for row in rows)


def _exact(value: float) -> Interval:
    return Interval(value, value, value, 0)
