"""Page of the token probe: distances, behavior, vocabulary ranks and answers of each model about the new token."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from markupsafe import Markup

from delia_ray.core.artifacts import Artifact
from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.probing.tokens.schema import Band, RowResult, TokenReport
from delia_ray.reporting.charts.charts import ChartRow, draw_dots
from delia_ray.reporting.charts.figures import assign_arm_colors
from delia_ray.reporting.charts.svg import ARM_COLORS, INK, render_svg
from delia_ray.reporting.charts.token_charts import LayerLine, draw_layers
from delia_ray.reporting.html import ChartPanel, build_environment
from delia_ray.reporting.wording.formatting import NBSP, format_number, format_percent
from delia_ray.reporting.wording.token_headline import format_row_title, summarize_arms

_LENS_LAYERS = 9
_SHOWN_NEIGHBORS = 8
_SHOWN_QUESTIONS = 6


class _TokenFigure(NamedTuple):
    name: str
    title: str
    caption: str
    panels: list[ChartPanel]


def render_tokens(tokens: Artifact) -> dict[str, str]:
    """Render the page of a finished ``tokens``: file name -> text."""
    report = TokenReport.model_validate_json((tokens.fetch("tokens.json")).read_text(encoding="utf-8"))
    return {"tokens.html": render_tokens_page(report, pq.read_table(tokens.fetch("answers.parquet")).to_pylist())}


def render_tokens_page(report: TokenReport, answers: Sequence[Mapping[str, Any]]) -> str:
    """Render the page of ``report``.

    Args:
        answers: rows of ``answers.parquet``.
    """
    colors = assign_arm_colors(list(report.models))
    template = build_environment().get_template("tokens.html.j2")
    return template.render(
        report=report,
        summaries=summarize_arms(report),
        keys=_build_keys(report, colors),
        figures=[_build_distances(report, colors), _build_further(report, colors)],
        cosine_panels=_build_cosines(report, colors),
        behavior_panels=_build_behavior(report, colors),
        layers=_select_layers(report),
        neighbors=_SHOWN_NEIGHBORS,
        questions=_select_questions(answers, list(report.models)),
        show_whitespace=show_whitespace,
        find_best_lens_rank=find_best_lens_rank,
    )


def show_whitespace(text: str) -> str:
    """Replace white space in a vocabulary entry by visible characters."""
    return (
        text.replace(" ", "\N{OPEN BOX}").replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}").replace("\t", "\N{RIGHTWARDS ARROW}")
    )


def find_best_lens_rank(row: RowResult, concept: str) -> tuple[int, int]:
    """Find the best rank of a concept under the logit lens, and the layer where it has it."""
    ranks = row.ranks[concept].lens
    layer = int(np.argmin(ranks))
    return ranks[layer], layer


def _build_keys(report: TokenReport, colors: Mapping[str, str]) -> list[Markup]:
    """Build the legend of the lines."""
    mark = Markup('<span class="key {}" style="--tone: {}">{}</span>')
    tones = {arm: f"var(--arm-{ARM_COLORS.index(color)})" for arm, color in colors.items()}
    solid = [mark.format("line", tones[arm], format_row_title(arm, "own")) for arm in report.models]
    fresh = [arm for arm, model in report.models.items() if "fresh" in model.rows]
    dashed = [mark.format("line dashed", tones[arm], format_row_title(arm, "fresh")) for arm in fresh]
    return [*solid, *dashed, mark.format("line dotted", "currentColor", format_row_title(next(iter(report.models)), "noise"))]


def _build_lines(report: TokenReport, colors: Mapping[str, str], get_values: Callable[[RowResult], Band | list[float]]) -> list[LayerLine]:
    """Build the line of each model's token, then of the controls: the untrained row in each model, the noise row in the untuned."""
    models = list(report.models.items())
    shown: list[tuple[RowResult, str, Any]] = [(model.rows["own"], colors[arm], "solid") for arm, model in reversed(models)]
    shown += [(model.rows["fresh"], colors[arm], "dashed") for arm, model in models if "fresh" in model.rows]
    shown.append((models[0][1].rows["noise"], INK, "dotted"))
    lines: list[LayerLine] = []
    for row, color, style in shown:
        values = get_values(row)
        if isinstance(values, Band):
            lines.append(LayerLine(values.value, values.low, values.high, color, style))
        else:
            lines.append(LayerLine(values, None, None, color, style))
    return lines


def _build_panels(
    report: TokenReport,
    colors: Mapping[str, str],
    name: str,
    get_values: Callable[[RowResult, str], Band | list[float]],
    *,
    is_share: bool = False,
) -> list[ChartPanel]:
    """Build one panel for each concept, all with the same y axis."""
    lines = {concept: _build_lines(report, colors, lambda row, concept=concept: get_values(row, concept)) for concept in report.concepts}
    top = max(max(line.values) for each in lines.values() for line in each) * 1.05
    panels: list[ChartPanel] = []
    for index, (concept, pieces) in enumerate(report.concepts.items()):
        figure = draw_layers(lines[concept], is_share=is_share, top=top)
        svg = render_svg(figure, f"{name}-{index}", _describe_lines(report, concept, get_values))
        note = f"tokenized as {' '.join(map(show_whitespace, pieces))}" if len(pieces) > 1 else ""
        panels.append(ChartPanel(concept, note, Markup(svg)))
    return panels


def _describe_lines(report: TokenReport, concept: str, get_values: Callable[[RowResult, str], Band | list[float]]) -> str:
    parts: list[str] = []
    for arm, model in report.models.items():
        line = get_values(model.rows["own"], concept)
        values = line.value if isinstance(line, Band) else line
        ends = f"from {format_number(values[0])} at layer 0 to {format_number(values[-1])} at the last"
        parts.append(f"{format_row_title(arm, 'own')} {ends}")
    return f"{concept}: {'; '.join(parts)}"


def _build_distances(report: TokenReport, colors: Mapping[str, str]) -> _TokenFigure:
    caption = (
        "Euclidean distance between the mean hidden states of the token and of the concept word, divided by the mean distance between two "
        f"of {report.random_words} random words of the vocabulary, in the same {report.carriers} sentences and at the same layer. Lower is "
        f"closer. Bands are 95{NBSP}% bootstrap intervals over the sentences. Layer 0 is the embedding, which does not depend on the "
        "sentence."
    )
    return _TokenFigure("distance", "Distance to each concept word", caption, _build_panels(report, colors, "distance", _get_distance))


def _get_distance(row: RowResult, concept: str) -> Band:
    return row.distances[concept].normalized


def _build_further(report: TokenReport, colors: Mapping[str, str]) -> _TokenFigure:
    caption = (
        f"Share of the random words that are further from the token than the concept word is. 50{NBSP}% is chance; at 100{NBSP}% the "
        "concept word is closer than all of them. A token that moves toward all words alike gets closer in the figure above, but gains "
        "nothing here."
    )
    panels = _build_panels(report, colors, "further", lambda row, concept: row.distances[concept].further, is_share=True)
    return _TokenFigure("further", "Closer than other words?", caption, panels)


def _build_cosines(report: TokenReport, colors: Mapping[str, str]) -> list[ChartPanel]:
    return _build_panels(report, colors, "cosine", lambda row, concept: row.distances[concept].cosine)


def _build_behavior(report: TokenReport, colors: Mapping[str, str]) -> list[ChartPanel]:
    """Build the panels of what the models do with the token, for each of the token's embedding rows."""
    rows = [(format_row_title(arm, name), row, colors[arm]) for arm, model in report.models.items() for name, row in model.rows.items()]
    nats = "nats per token; "
    charts: list[tuple[str, str, bool, Callable[[RowResult], Interval | None]]] = [
        ("Instead of the instruction", nats + "lower: the token replaces the instruction better", False, lambda row: row.substitution),
        ("Told not to use it", nats + "lower: the answer stays as if it were not mentioned", False, lambda row: row.negated),
        ("Told to use it", nats + "higher: mentioning it changes the answer more", False, lambda row: row.asked),
        ("Gives its meaning away", "share of answers with a word that gives it away", True, lambda row: row.leak.words),
        ("Answers in the format", "share of answers in the task's format", True, lambda row: row.leak.format),
    ]
    panels: list[ChartPanel] = []
    for index, (heading, note, is_share, get_interval) in enumerate(charts):
        intervals = [(label, get_interval(row), color) for label, row, color in rows]
        chart_rows = [ChartRow(label, each, color) for label, each, color in intervals]
        if all(row.estimate is None for row in chart_rows):
            continue
        show = format_percent if is_share else format_number
        description = "; ".join(f"{row.label} {show(row.value)}" for row in chart_rows)
        svg = render_svg(draw_dots(chart_rows, is_share=is_share, constant=None), f"behavior-{index}", f"{heading}: {description}")
        panels.append(ChartPanel(heading, note, Markup(svg)))
    return panels


def _select_layers(report: TokenReport) -> list[int]:
    """Select the layers of the logit-lens table, including the embedding and the last layer."""
    last = len(next(iter(report.models.values())).scale) - 1
    return sorted({round(last * i / (_LENS_LAYERS - 1)) for i in range(_LENS_LAYERS)})


def _select_questions(answers: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Select the first questions about the token's meaning, with the answer of each model with its own row."""
    own = [each for each in answers if each["probe"] == "leak" and each["row"] == "own"]
    questions = list(dict.fromkeys(each["prompt"] for each in own))[:_SHOWN_QUESTIONS]
    by_question = {(each["arm"], each["prompt"]): each["answer"] for each in own}
    return [(prompt, {arm: by_question[arm, prompt] for arm in arms}) for prompt in questions]
