"""The page of the new token: what it has come to mean to each model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.probing.token_schema import Band, Row, TokenReport
from delia_ray.reporting import drawing
from delia_ray.reporting.figures import arm_colours
from delia_ray.reporting.html import Drawing, environment
from delia_ray.reporting.numerals import number, percent
from delia_ray.reporting.schema import Estimate
from delia_ray.reporting.svg import ARM_COLOURS, INK, inline
from delia_ray.reporting.token_drawing import LayerLine, draw_layers
from delia_ray.reporting.token_finding import findings, title

_LENS_LAYERS = 9
_SHOWN_NEIGHBOURS = 8
_SHOWN_QUESTIONS = 6


class _Figure(NamedTuple):
    name: str
    title: str
    caption: str
    drawings: list[Drawing]


def render_tokens(report: TokenReport, said: Sequence[Mapping[str, Any]]) -> str:
    """The page, from what was found and what the models said (columns of ``answers.parquet``)."""
    colours = arm_colours(list(report.models))
    page = environment().get_template("tokens.html.j2")
    return page.render(
        report=report,
        findings=findings(report),
        keys=_keys(report, colours),
        figures=[_distances(report, colours), _further(report, colours)],
        cosines=_cosines(report, colours),
        behaviour=_behaviour(report, colours),
        layers=_layers(report),
        neighbours=_SHOWN_NEIGHBOURS,
        questions=_questions(said, list(report.models)),
        spelled=spelled,
        lens_best=lens_best,
    )


def spelled(text: str) -> str:
    """A vocabulary entry with its white space made visible."""
    return (
        text.replace(" ", "\N{OPEN BOX}").replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}").replace("\t", "\N{RIGHTWARDS ARROW}")
    )


def lens_best(row: Row, concept: str) -> tuple[int, int]:
    """The best place of a concept under the logit lens, and the layer it has it at."""
    places = row.ranks[concept].lens
    layer = int(np.argmin(places))
    return places[layer], layer


def _keys(report: TokenReport, colours: Mapping[str, str]) -> list[Markup]:
    """What the lines are."""
    mark = Markup('<span class="key {}" style="--tone: {}">{}</span>')
    tones = {arm: f"var(--arm-{ARM_COLOURS.index(colour)})" for arm, colour in colours.items()}
    solid = [mark.format("line", tones[arm], title(arm, "own")) for arm in report.models]
    dashed = [mark.format("line dashed", tones[arm], title(arm, "fresh")) for arm, model in report.models.items() if "fresh" in model.rows]
    return [*solid, *dashed, mark.format("line dotted", "currentColor", title(next(iter(report.models)), "noise"))]


def _lines(report: TokenReport, colours: Mapping[str, str], of: Callable[[Row], Band | list[float]]) -> list[LayerLine]:
    """Each model's token, then the controls: the untrained row in each, the noise row in the untuned."""
    models = list(report.models.items())
    shown: list[tuple[Row, str, Any]] = [(model.rows["own"], colours[arm], "solid") for arm, model in reversed(models)]
    shown += [(model.rows["fresh"], colours[arm], "dashed") for arm, model in models if "fresh" in model.rows]
    shown.append((models[0][1].rows["noise"], INK, "dotted"))
    lines: list[LayerLine] = []
    for row, colour, style in shown:
        found = of(row)
        if isinstance(found, Band):
            lines.append(LayerLine(found.value, found.low, found.high, colour, style))
        else:
            lines.append(LayerLine(found, None, None, colour, style))
    return lines


def _panels(
    report: TokenReport,
    colours: Mapping[str, str],
    name: str,
    of: Callable[[Row, str], Band | list[float]],
    *,
    is_share: bool = False,
) -> list[Drawing]:
    """One drawing a concept, all to one scale."""
    lines = {concept: _lines(report, colours, lambda row, concept=concept: of(row, concept)) for concept in report.concepts}
    top = max(max(line.values) for each in lines.values() for line in each) * 1.05
    drawings: list[Drawing] = []
    for index, (concept, pieces) in enumerate(report.concepts.items()):
        svg = inline(draw_layers(lines[concept], is_share=is_share, top=top), f"{name}-{index}", _described(report, concept, of))
        note = f"read as {' '.join(map(spelled, pieces))}" if len(pieces) > 1 else ""
        drawings.append(Drawing(concept, note, Markup(svg)))
    return drawings


def _described(report: TokenReport, concept: str, of: Callable[[Row, str], Band | list[float]]) -> str:
    parts: list[str] = []
    for arm, model in report.models.items():
        found = of(model.rows["own"], concept)
        values = found.value if isinstance(found, Band) else found
        parts.append(f"{title(arm, 'own')} from {number(values[0])} at layer 0 to {number(values[-1])} at the last")
    return f"{concept}: {'; '.join(parts)}"


def _distances(report: TokenReport, colours: Mapping[str, str]) -> _Figure:
    caption = (
        "Euclidean distance of the token's mean state from each word's, as a multiple of the mean distance of two of "
        f"{report.random_words} words drawn from the vocabulary in the same {report.carriers} sentences and layer. Lower is closer; "
        "bands are 95 % bootstrap intervals over the sentences. Layer 0 is the embedding, where sentences make no difference."
    )
    return _Figure("distance", "Distance to each concept word", caption, _panels(report, colours, "distance", _normalised))


def _normalised(row: Row, concept: str) -> Band:
    return row.distances[concept].normalised


def _further(report: TokenReport, colours: Mapping[str, str]) -> _Figure:
    caption = (
        "Share of the drawn words that are further from the token than the concept word is. Half is what chance gives; at 100 % the "
        "concept is nearer than all of them. A token that moves towards all words alike gains in the figure above, but not here."
    )
    drawings = _panels(report, colours, "further", lambda row, concept: row.distances[concept].further, is_share=True)
    return _Figure("further", "Closer than other words?", caption, drawings)


def _cosines(report: TokenReport, colours: Mapping[str, str]) -> list[Drawing]:
    return _panels(report, colours, "cosine", lambda row, concept: row.distances[concept].cosine)


def _behaviour(report: TokenReport, colours: Mapping[str, str]) -> list[Drawing]:
    """What the models do with the token, for every row it was given."""
    rows = [(title(arm, name), row, colours[arm]) for arm, model in report.models.items() for name, row in model.rows.items()]
    nats = "nats a token; "
    wanted: list[tuple[str, str, bool, Callable[[Row], Interval | None]]] = [
        ("Instead of the instruction", nats + "lower: the token says what the instruction says", False, lambda row: row.substitution),
        ("Told not to use it", nats + "lower: the answer stays as if it were not mentioned", False, lambda row: row.negated),
        ("Told to use it", nats + "higher: the mention changes the answer", False, lambda row: row.asked),
        ("Gives its meaning away", "answers that say one of the words", True, lambda row: row.leak.words),
        ("Answers in the format", "instead of explaining the token", True, lambda row: row.leak.format),
    ]
    drawings: list[Drawing] = []
    for index, (heading, note, is_share, of) in enumerate(wanted):
        found = [drawing.Row(label, Estimate.of(each) if (each := of(row)) else None, colour) for label, row, colour in rows]
        if all(each.estimate is None for each in found):
            continue
        show = percent if is_share else number
        spoken = "; ".join(f"{each.label} {show(each.value)}" for each in found)
        svg = inline(drawing.draw_dots(found, is_share=is_share, floor=None), f"behaviour-{index}", f"{heading}: {spoken}")
        drawings.append(Drawing(heading, note, Markup(svg)))
    return drawings


def _layers(report: TokenReport) -> list[int]:
    """Layers of the logit-lens table, the embedding and the last among them."""
    last = len(next(iter(report.models.values())).scale) - 1
    return sorted({round(last * turn / (_LENS_LAYERS - 1)) for turn in range(_LENS_LAYERS)})


def _questions(said: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The first questions after the token's meaning, with each model's own answer."""
    own = [each for each in said if each["probe"] == "leak" and each["row"] == "own"]
    asked = list(dict.fromkeys(each["prompt"] for each in own))[:_SHOWN_QUESTIONS]
    answers = {(each["arm"], each["prompt"]): each["answer"] for each in own}
    return [(prompt, {arm: answers[arm, prompt] for arm in arms}) for prompt in asked]
