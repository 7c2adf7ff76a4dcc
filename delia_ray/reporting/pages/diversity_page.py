"""Page of a pool of diverse rows: diversity measures of its queries and answers, their topics, lengths, languages and a map."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from markupsafe import Markup

from delia_ray.core.artifacts import Artifact
from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.reporting.charts.charts import ChartRow, draw_dots
from delia_ray.reporting.charts.pool_charts import draw_histogram, draw_scatter, draw_shares
from delia_ray.reporting.charts.svg import ARM_COLORS, render_svg
from delia_ray.reporting.html import ChartPanel, build_environment
from delia_ray.reporting.wording.formatting import NBSP, format_count, format_number, format_percent
from delia_ray.synthesis.diversity.measures import COLUMNS, Column, Diversity, Histogram, SampledMeasure

_COLORS = {"queries": ARM_COLORS[3], "answers": ARM_COLORS[4]}
"""Other colors than the usual arms have on the run's page, which shows these charts, too."""
_SHOWN_TOPICS = 10
_SHOWN_LANGUAGES = 6
_COLORED_TOPICS = 5


class MeasureText(NamedTuple):
    """A diversity measure's title, explanation and direction."""

    title: str
    meaning: str
    """One sentence."""
    more_diverse: str
    """``higher`` or ``lower``."""


MEASURES = {
    "vendi": MeasureText("Vendi score", "This many texts with nothing in common would be as diverse as the sample.", "higher"),
    "mean_distance": MeasureText(
        "Mean distance", "1 minus the cosine similarity of two texts, as the mean over all pairs: 0 where all are alike.", "higher"
    ),
    "self_bleu": MeasureText("Self-BLEU", "Mean BLEU of each text against the other texts of the sample: 1 for copies.", "lower"),
    "distinct_1": MeasureText("Distinct words", "Number of different words divided by the number of all words.", "higher"),
    "distinct_2": MeasureText("Distinct word pairs", "The same for two words in a row.", "higher"),
    "distinct_3": MeasureText("Distinct word triples", "The same for three words in a row.", "higher"),
    "compression_ratio": MeasureText("Compression ratio", "Size of the sample divided by its size after compression.", "lower"),
    "opening_entropy": MeasureText("Entropy of openings", "Entropy in bits of the first two words of a text.", "higher"),
}


class _PoolFigure(NamedTuple):
    title: str
    caption: str
    panels: list[ChartPanel]


def render_diversity(diversity: Artifact) -> dict[str, str]:
    """Render the page of a finished ``diversity``: file name -> text."""
    measures = Diversity.model_validate_json((diversity.fetch("diversity.json")).read_text(encoding="utf-8"))
    return {"diversity.html": render_diversity_page(measures, pq.read_table(diversity.fetch("map.parquet")))}


def render_diversity_page(diversity: Diversity, points: pa.Table) -> str:
    """Render the page of ``diversity``.

    Args:
        points: coordinates of the texts on the map (columns ``column``, ``topic``, ``x``, ``y``); without rows there is no map.
    """
    columns = {name: get_column(diversity, name) for name in COLUMNS}
    figures = [_build_lengths(columns), _build_topics(diversity), _build_openings(columns), _build_languages(columns)]
    if points.num_rows:
        figures[:0] = [_build_nearest(columns), _build_map(points)]
    template = build_environment().get_template("diversity.html.j2")
    return template.render(
        diversity=diversity,
        columns=columns,
        measure_panels=draw_measures(diversity),
        sampling=describe_sampling(diversity),
        figures=figures,
    )


def describe_sampling(diversity: Diversity) -> str:
    """Describe what a dot and its whiskers stand for."""
    texts, vectors = diversity.queries.sample_texts, diversity.queries.sample_vectors
    sizes = f"{texts} texts" + (f" ({vectors} for the Vendi score and the mean distance)" if vectors else "")
    if diversity.queries.texts > texts:
        return (
            f"A dot is the median over 40 samples of {sizes}, so that pools of different sizes can be compared; "
            f"whiskers span the middle 95{NBSP}% of the samples."
        )
    return (
        f"A dot is computed from samples of {sizes}. Where a sample holds all texts, the dot is the value of the whole pool and has no "
        "whiskers; compare it only with pools of the same size."
    )


def get_column(diversity: Diversity, name: str) -> Column:
    """Return the queries or the answers."""
    return diversity.queries if name == "queries" else diversity.answers


def draw_measures(diversity: Diversity) -> list[ChartPanel]:
    """Draw, for each measure, its value for queries and for answers."""
    panels: list[ChartPanel] = []
    for name, text in MEASURES.items():
        rows = [ChartRow(each.capitalize(), _get_estimate(get_column(diversity, each), name), _COLORS[each]) for each in COLUMNS]
        if any(row.estimate for row in rows):
            description = "; ".join(f"{row.label} {format_number(row.value)}" for row in rows)
            svg = render_svg(draw_dots(rows, is_share=False, constant=None), f"pool-{name}", f"{text.title}: {description}")
            panels.append(ChartPanel(text.title, f"{text.meaning} {text.more_diverse.capitalize()} is more diverse.", Markup(svg)))
    return panels


def _get_estimate(column: Column, name: str) -> Interval | None:
    measure = column.measures.get(name)
    if measure is None:
        return None
    texts = column.embedded_texts if name in ("vendi", "mean_distance") else column.texts
    has_interval = _has_interval(measure)
    return Interval(value=measure.value, low=measure.low if has_interval else None, high=measure.high if has_interval else None, n=texts)


def _has_interval(measure: SampledMeasure) -> bool:
    return measure.high > measure.low


def _build_nearest(columns: dict[str, Column]) -> _PoolFigure:
    panels = [
        _build_histogram(nearest, f"nearest-{name}", name, "cosine similarity to the nearest other text")
        for name, column in columns.items()
        if (nearest := column.nearest) is not None
    ]
    caption = "Similarity of each text to the one most like it. Bars further left are more diverse; a bar at 1 counts near-duplicates."
    return _PoolFigure("Nearest neighbors", caption, panels)


def _build_lengths(columns: dict[str, Column]) -> _PoolFigure:
    panels = [
        _build_histogram(columns[name].lengths[unit], f"length-{name}-{unit}", name, unit)
        for name, unit in (("queries", "words"), ("answers", "words"), ("answers", "tokens"))
    ]
    caption = f"Lengths of the texts. The last bar includes the longest 1{NBSP}% of them. A wider spread is more diverse."
    return _PoolFigure("Lengths", caption, panels)


def _build_topics(diversity: Diversity) -> _PoolFigure:
    counts, measure = diversity.topics.counts, diversity.topics.entropy
    shares = {name or "(no topic)": times / diversity.queries.texts for name, times in list(counts.items())[:_SHOWN_TOPICS]}
    caption = (
        f"{_format_shown(len(shares), len(counts))} of the queries. A sample of {diversity.queries.sample_texts} exchanges has "
        f"topics with an entropy of {format_number(measure.value)} bits{_format_interval(measure)}; the whole pool would have "
        f"{format_number(float(np.log2(len(counts))))} bits if all {len(counts)} topics were equally frequent. A more even distribution is "
        "more diverse."
    )
    return _PoolFigure("Topics", caption, [_build_shares(shares, "topics", "Share of exchanges", "queries")])


def _format_shown(shown: int, total: int) -> str:
    return f"The {shown} most common of {total} topics" if shown < total else "All topics"


def _format_interval(measure: SampledMeasure) -> str:
    return f" ({format_number(measure.low)} to {format_number(measure.high)})" if _has_interval(measure) else ""


def _build_openings(columns: dict[str, Column]) -> _PoolFigure:
    panels = [
        _build_shares(
            {words: times / column.texts for words, times in column.openings.items()}, f"openings-{name}", name.capitalize(), name
        )
        for name, column in columns.items()
    ]
    return _PoolFigure("Openings", "The most common first two words of a text. Smaller shares are more diverse.", panels)


def _build_languages(columns: dict[str, Column]) -> _PoolFigure:
    panels: list[ChartPanel] = []
    for name, column in columns.items():
        shown = dict(list(column.languages.items())[:_SHOWN_LANGUAGES])
        rest = column.texts - sum(shown.values())
        shares = {code: times / column.texts for code, times in (shown | ({"others": rest} if rest else {})).items()}
        panels.append(_build_shares(shares, f"languages-{name}", name.capitalize(), name))
    caption = (
        f"Languages by ISO 639 code, as py3langid detects them. A code with only 1 or 2{NBSP}% is often a wrong guess for a name or a "
        "short text. Several languages are more diverse than one, if the task needs them."
    )
    return _PoolFigure("Languages", caption, panels)


def _build_map(points: pa.Table) -> _PoolFigure:
    topics = Counter(topic for topic in points["topic"].to_pylist() if topic)
    colored = [topic for topic, _ in topics.most_common(_COLORED_TOPICS)]
    colors = {topic: ARM_COLORS[i] for i, topic in enumerate(colored, start=1)}
    panels: list[ChartPanel] = []
    for name in COLUMNS:
        texts = points.filter(pc.field("column") == name)
        points_N2 = np.stack([texts["x"].to_numpy(), texts["y"].to_numpy()], axis=1)
        figure = draw_scatter(points_N2, [colors.get(topic, ARM_COLORS[0]) for topic in texts["topic"].to_pylist()])
        svg = render_svg(figure, f"map-{name}", f"{texts.num_rows} {name} as dots; texts that are alike in meaning lie close together")
        panels.append(ChartPanel(name.capitalize(), f"{format_count(texts.num_rows)} texts", Markup(svg)))
    caption = Markup(
        "Each dot is a text; dots that lie close together are similar texts. The axes are the first two principal components of the "
        "embeddings; differences along other directions are not visible. A cloud that fills the plane evenly is more diverse than a few "
        "clusters."
    )
    indices = {**{topic: i for i, topic in enumerate(colored, start=1)}, "other topics": 0} if colored else {}
    key = [Markup('<span class="key" style="--tone: var(--arm-{})">{}</span>').format(i, name) for name, i in indices.items()]
    return _PoolFigure("Map", Markup("<br>").join([caption, Markup(" ").join(key)]), panels)


def _build_histogram(histogram: Histogram, name: str, column: str, unit: str) -> ChartPanel:
    highest = int(np.argmax(histogram.counts))
    low, high = histogram.edges[highest], histogram.edges[highest + 1]
    svg = render_svg(
        draw_histogram(histogram.edges, histogram.counts, unit, _COLORS[column]),
        f"pool-{name}",
        f"Histogram of {column} by {unit}; the highest bar is from {low:g} to {high:g}",
    )
    return ChartPanel(column.capitalize(), "", Markup(svg))


def _build_shares(shares: dict[str, float], name: str, heading: str, column: str) -> ChartPanel:
    description = "; ".join(f"{label} {format_percent(share)}" for label, share in shares.items())
    return ChartPanel(heading, "", Markup(render_svg(draw_shares(shares, _COLORS[column]), f"pool-{name}", f"{heading}: {description}")))
