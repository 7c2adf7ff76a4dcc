"""Keeps generated queries diverse while they are generated. Pure: a plan is a function of the settings and the log so far.

Queries are drawn in waves. After each, every topic is measured against what it wrote before; one that sags is made hotter, then
steered in other words, then stopped, and the topics that are left take its turns.
"""

import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any, Literal, NamedTuple

from delia_ray.records import row_id
from delia_ray.synthesis.query_config import DiversityController
from delia_ray.words import ngrams, words_of

Action = Literal["heat", "reword", "stop"]
_DIGITS = 4


@dataclass(frozen=True)
class Steering:
    """How a topic is asked for now."""

    temperature: float
    wording: int = 0
    """Index among the wordings of the steering system turn."""
    active: bool = True


Steerings = Mapping[str, Steering]
"""By topic, in the order in which topics take turns."""


class Ask(NamedTuple):
    """One query to draw."""

    number: int
    topic: str
    temperature: float
    wording: int


@dataclass(frozen=True)
class Reading:
    """How diverse a topic's texts of one wave are, against each other and against its texts before; 1 where nothing repeats."""

    texts: int
    new_trigrams: float
    """Share of the 3-grams of words that did not stand there before; 1 where there are no 3-grams."""
    new_texts: float
    """Share of the texts that did not stand there before, in any case and spacing."""


@dataclass(frozen=True)
class Line:
    """What was done about a topic, and why: one line of the log."""

    wave: int
    topic: str
    measure: str
    value: float
    floor: float
    action: Action
    steering: Steering
    """The topic's new state."""


@dataclass(frozen=True)
class Wave:
    """A wave's last line in the log: it was measured, and the lines before it are all that was done."""

    wave: int
    topics: int
    """Topics that still took turns."""
    new_trigrams: float
    new_texts: float
    """Means over the topics that were measured."""


class Memory:
    """The last texts of each topic, ``window_texts`` at most."""

    def __init__(self, window_texts: int):
        self._texts: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=window_texts))

    def observe(self, texts: Iterable[tuple[str, str, str]]) -> dict[str, Reading]:
        """Readings of a wave, by topic, and remember it.

        Args:
            texts: (id, topic, text) of its rows, in any order.
        """
        wave: dict[str, list[str]] = defaultdict(list)
        for _, topic, text in sorted(texts):
            wave[topic].append(text)
        readings = {topic: _read(self._texts[topic], found) for topic, found in sorted(wave.items())}
        for topic, found in wave.items():
            self._texts[topic].extend(found)
        return readings


def start(topics: Iterable[str], temperature: float) -> Steerings:
    """Every topic as it is without a controller."""
    return {topic: Steering(temperature) for topic in topics}


def plan(steerings: Steerings, numbers: Iterable[int]) -> list[Ask]:
    """The queries of those numbers: the topics that are not stopped take turns."""
    turns = [(topic, each) for topic, each in steerings.items() if each.active]
    asked = ((number, *turns[number % len(turns)]) for number in numbers)
    return [Ask(number, topic, each.temperature, each.wording) for number, topic, each in asked]


def decide(
    settings: DiversityController, wave: int, wordings: int, steerings: Steerings, readings: Mapping[str, Reading]
) -> list[Line | Wave]:
    """What to do after a wave: a line for each topic that sags, and the wave's own line.

    The worst come first, and the last topic is never stopped.
    """
    lines: list[Line | Wave] = []
    left = sum(each.active for each in steerings.values())
    measured = {topic: each for topic, each in readings.items() if each.texts >= settings.fewest_texts and steerings[topic].active}
    for value, topic, measure, floor in sorted(_sagging(settings, measured)):
        found = _act(settings, wordings, steerings[topic])
        if found[0] == "stop" and left == 1:
            continue
        left -= found[0] == "stop"
        lines.append(Line(wave, topic, measure, value, floor, *found))
    means = (_mean(each.new_trigrams for each in measured.values()), _mean(each.new_texts for each in measured.values()))
    return [*lines, Wave(wave, left, *means)]


def apply(steerings: Steerings, lines: Iterable[Line | Wave]) -> Steerings:
    """The steering after those lines."""
    return {**steerings, **{line.topic: line.steering for line in lines if isinstance(line, Line)}}


def replay(topics: Iterable[str], temperature: float, rows: int, wave_rows: int, log: Sequence[Line | Wave]) -> Iterator[list[Ask]]:
    """The plans of all waves of ``rows`` queries, from the log of the run that drew them."""
    steerings = start(topics, temperature)
    for wave, numbers in enumerate(waves(rows, wave_rows)):
        yield plan(steerings, numbers)
        steerings = apply(steerings, (line for line in log if line.wave == wave))


def waves(rows: int, wave_rows: int) -> list[range]:
    """The numbers of each wave's rows. More rows are more waves; whole waves stay what they are."""
    return [range(first, min(first + wave_rows, rows)) for first in range(0, rows, wave_rows)]


def write_lines(lines: Iterable[Line | Wave]) -> str:
    """JSON, a line each."""
    return "".join(json.dumps(_flat(asdict(line))) + "\n" for line in lines)


def read_lines(text: str) -> list[Line | Wave]:
    """The lines of every wave that was written to its end; a kill may have cut the last one."""
    found = [_line(json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    last = max((place for place, line in enumerate(found) if isinstance(line, Wave)), default=-1)
    return found[: last + 1]


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in line.items() if name != "steering"}, **line.get("steering", {})}


def _line(values: dict[str, Any]) -> Line | Wave:
    if "action" not in values:
        return Wave(**values)
    steering = Steering(**{name: values.pop(name) for name in ("temperature", "wording", "active")})
    return Line(**values, steering=steering)


def _read(before: Iterable[str], texts: Sequence[str]) -> Reading:
    before = list(before)
    trigrams = _new_share(chain.from_iterable(map(_trigrams, before)), chain.from_iterable(map(_trigrams, texts)))
    return Reading(len(texts), trigrams, _new_share(map(_folded, before), map(_folded, texts)))


def _new_share(before: Iterable[Any], items: Iterable[Any]) -> float:
    seen, count, new = set(before), 0, 0
    for item in items:
        count += 1
        new += item not in seen
        seen.add(item)
    return round(new / count, _DIGITS) if count else 1.0


def _trigrams(text: str) -> Iterator[tuple[str, ...]]:
    return ngrams(words_of(text), 3)


def _folded(text: str) -> str:
    return row_id(" ".join(text.casefold().split()))


def _sagging(settings: DiversityController, readings: Mapping[str, Reading]) -> Iterator[tuple[float, str, str, float]]:
    """Each topic below a floor, with the measure that is furthest below its own: value, topic, measure, floor."""
    for topic, reading in readings.items():
        measures = (("new_texts", reading.new_texts, settings.new_texts), ("new_trigrams", reading.new_trigrams, settings.new_trigrams))
        below = [(value - floor, value, topic, measure, floor) for measure, value, floor in measures if value < floor]
        if below:
            yield min(below)[1:]


def _act(settings: DiversityController, wordings: int, steering: Steering) -> tuple[Action, Steering]:
    """The next rung of the ladder."""
    if steering.temperature < settings.max_temperature and settings.temperature_step:
        hotter = round(min(steering.temperature + settings.temperature_step, settings.max_temperature), _DIGITS)
        return "heat", replace(steering, temperature=hotter)
    if steering.wording + 1 < wordings:
        return "reword", replace(steering, wording=steering.wording + 1)
    return "stop", replace(steering, active=False)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return round(sum(found) / len(found), _DIGITS) if found else 1.0
