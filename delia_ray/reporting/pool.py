"""The page of a pool of diverse rows: how diverse its queries and answers are."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from delia_ray.reporting.drawing import Row, draw_dots
from delia_ray.reporting.html import Drawing, environment
from delia_ray.reporting.numerals import count, number, percent
from delia_ray.reporting.pool_drawing import draw_histogram, draw_map, draw_shares
from delia_ray.reporting.schema import Estimate
from delia_ray.reporting.svg import ARM_COLOURS, inline
from delia_ray.synthesis.diversity import COLUMNS, Column, Diversity, Histogram, Measure

_COLOURS = {"queries": ARM_COLOURS[3], "answers": ARM_COLOURS[4]}
"""Not those of the usual arms, which the run's page shows too."""
_SHOWN = 10
_COLOURED_TOPICS = 5


class Words(NamedTuple):
    """A measure for a reader who has not heard of it."""

    title: str
    meaning: str
    """One sentence."""
    more_diverse: str
    """``higher`` or ``lower``."""


MEASURES = {
    "vendi": Words("Vendi score", "How many texts with nothing in common would be as diverse as a sample.", "higher"),
    "mean_distance": Words("Mean distance", "One minus the cosine of two texts, over all pairs: 0 where all are alike.", "higher"),
    "self_bleu": Words("Self-BLEU", "How much of a text's wording can be found in the sample's other texts: 1 for copies.", "lower"),
    "distinct_1": Words("Distinct words", "Different words over all words.", "higher"),
    "distinct_2": Words("Distinct word pairs", "Different runs of two words over all of them.", "higher"),
    "distinct_3": Words("Distinct word triples", "Different runs of three words over all of them.", "higher"),
    "compression_ratio": Words("Compression ratio", "How many times smaller the texts become when repetition is squeezed out.", "lower"),
    "opening_entropy": Words("Entropy of openings", "Bits that tell which two words a text begins with.", "higher"),
}


class _Figure(NamedTuple):
    title: str
    caption: str
    drawings: list[Drawing]


def render_pool(found: Diversity, points: pa.Table) -> str:
    """The page for what was found and the texts' places on a plane (columns ``column``, ``topic``, ``x``, ``y``)."""
    columns = {name: column_of(found, name) for name in COLUMNS}
    figures = [_lengths(columns), _topics(found), _openings(columns), _languages(columns)]
    if points.num_rows:
        figures[:0] = [_nearest(columns), _map(found, points)]
    page = environment().get_template("pool.html.j2")
    return page.render(found=found, columns=columns, measures=measure_drawings(found), sampling=sampling(found), figures=figures)


def sampling(found: Diversity) -> str:
    """What a dot and its whiskers stand for."""
    texts, vectors = found.queries.sample_texts, found.queries.sample_vectors
    sizes = f"{texts} texts" + (f" ({vectors} for the Vendi score and the mean distance)" if vectors else "")
    if found.queries.texts > texts:
        return (
            f"A dot is the median of 40 samples of {sizes}, so that pools of different sizes can be compared; "
            "whiskers hold the middle 95\N{NO-BREAK SPACE}% of the samples."
        )
    return (
        f"Samples are of {sizes}, as many as there are texts: such a dot is the pool's own value, without whiskers, "
        "and is to be compared with pools of the same size only."
    )


def column_of(found: Diversity, name: str) -> Column:
    """The queries or the answers."""
    return found.queries if name == "queries" else found.answers


def measure_drawings(found: Diversity) -> list[Drawing]:
    """For each measure, its value for queries and for answers."""
    drawings: list[Drawing] = []
    for name, words in MEASURES.items():
        rows = [Row(each.capitalize(), _estimate(column_of(found, each), name), _COLOURS[each]) for each in COLUMNS]
        if any(row.estimate for row in rows):
            spoken = "; ".join(f"{row.label} {number(row.value)}" for row in rows)
            svg = inline(draw_dots(rows, is_share=False, floor=None), f"pool-{name}", f"{words.title}: {spoken}")
            drawings.append(Drawing(words.title, f"{words.meaning} {words.more_diverse.capitalize()} is more diverse.", Markup(svg)))
    return drawings


def _estimate(of: Column, name: str) -> Estimate | None:
    measure = of.measures.get(name)
    if measure is None:
        return None
    texts = of.embedded_texts if name in ("vendi", "mean_distance") else of.texts
    wide = _has_width(measure)
    return Estimate(value=measure.value, low=measure.low if wide else None, high=measure.high if wide else None, n=texts)


def _has_width(measure: Measure) -> bool:
    return measure.high > measure.low


def _nearest(columns: dict[str, Column]) -> _Figure:
    drawings = [
        _histogram(each, f"nearest-{name}", name, "cosine with the nearest other text", "texts are this near to another")
        for name, column in columns.items()
        if (each := column.nearest) is not None
    ]
    caption = "How like each text is to the one most like it. The further left, the more diverse; a pile at 1 is of texts with a twin."
    return _Figure("Nearest neighbours", caption, drawings)


def _lengths(columns: dict[str, Column]) -> _Figure:
    drawings = [
        _histogram(columns[name].lengths[unit], f"length-{name}-{unit}", name, unit, f"texts have so many {unit}")
        for name, unit in (("queries", "words"), ("answers", "words"), ("answers", "tokens"))
    ]
    caption = "How long the texts are; the last bar also holds the longest hundredth. The wider the spread, the more diverse."
    return _Figure("Lengths", caption, drawings)


def _topics(found: Diversity) -> _Figure:
    counts, measure = found.topics.counts, found.topics.entropy
    shares = {name or "(none given)": times / found.queries.texts for name, times in list(counts.items())[:_SHOWN]}
    caption = (
        f"{_how_many(len(shares), len(counts))} topics that the queries were asked under. The topics of a sample of "
        f"{found.queries.sample_texts} have an entropy of {number(measure.value)} bits{_between(measure)}; if all {len(counts)} were "
        f"equally frequent, the whole pool's would be {number(float(np.log2(len(counts))))}. The more even, the more diverse."
    )
    return _Figure("Topics", caption, [_shares(shares, "topics", "Share of exchanges", "queries")])


def _how_many(shown: int, all_of_them: int) -> str:
    return f"The {shown} commonest of {all_of_them}" if shown < all_of_them else f"The {shown}"


def _between(measure: Measure) -> str:
    return f" ({number(measure.low)} to {number(measure.high)})" if _has_width(measure) else ""


def _openings(columns: dict[str, Column]) -> _Figure:
    drawings = [
        _shares({words: times / column.texts for words, times in column.openings.items()}, f"openings-{name}", name.capitalize(), name)
        for name, column in columns.items()
    ]
    return _Figure("Openings", "The commonest first two words. The smaller the shares, the more diverse.", drawings)


def _languages(columns: dict[str, Column]) -> _Figure:
    drawings: list[Drawing] = []
    for name, column in columns.items():
        named = dict(list(column.languages.items())[: _SHOWN - 4])
        rest = column.texts - sum(named.values())
        shares = {code: times / column.texts for code, times in (named | ({"others": rest} if rest else {})).items()}
        drawings.append(_shares(shares, f"languages-{name}", name.capitalize(), name))
    caption = (
        "Languages by their ISO codes, as py3langid tells them. A code with a percent or two is often a name or a scrap told wrongly. "
        "Several languages are more diverse than one, if the task wants them."
    )
    return _Figure("Languages", caption, drawings)


def _map(found: Diversity, points: pa.Table) -> _Figure:
    topics = Counter(topic for topic in points["topic"].to_pylist() if topic)
    coloured = [topic for topic, _ in topics.most_common(_COLOURED_TOPICS)]
    tones = {topic: ARM_COLOURS[place + 1] for place, topic in enumerate(coloured)}
    drawings: list[Drawing] = []
    for name in COLUMNS:
        mine = points.filter(pc.field("column") == name)
        places_N2 = np.stack([mine["x"].to_numpy(), mine["y"].to_numpy()], axis=1)
        figure = draw_map(places_N2, [tones.get(topic, ARM_COLOURS[0]) for topic in mine["topic"].to_pylist()])
        svg = inline(figure, f"map-{name}", f"{mine.num_rows} {name} as dots; texts alike in meaning lie close together")
        drawings.append(Drawing(name.capitalize(), f"{count(mine.num_rows)} texts", Markup(svg)))
    caption = Markup(
        "Each dot is a text; what lies close is alike. The plane is the one the texts differ most along, and hides the rest. "
        "A cloud that fills it evenly is more diverse than a few clumps."
    )
    places = {**{topic: place + 1 for place, topic in enumerate(coloured)}, "other topics": 0} if coloured else {}
    key = [Markup('<span class="key" style="--tone: var(--arm-{})">{}</span>').format(place, name) for name, place in places.items()]
    return _Figure("Map", Markup("<br>").join([caption, Markup(" ").join(key)]), drawings)


def _histogram(histogram: Histogram, name: str, column: str, unit: str, spoken: str) -> Drawing:
    commonest = int(np.argmax(histogram.counts))
    low, high = histogram.edges[commonest], histogram.edges[commonest + 1]
    svg = inline(
        draw_histogram(histogram.edges, histogram.counts, unit, _COLOURS[column]),
        f"pool-{name}",
        f"{column.capitalize()}: most {spoken}: {low:g} to {high:g}",
    )
    return Drawing(column.capitalize(), "", Markup(svg))


def _shares(shares: dict[str, float], name: str, heading: str, column: str) -> Drawing:
    spoken = "; ".join(f"{label} {percent(share)}" for label, share in shares.items())
    return Drawing(heading, "", Markup(inline(draw_shares(shares, _COLOURS[column]), f"pool-{name}", f"{heading}: {spoken}")))
