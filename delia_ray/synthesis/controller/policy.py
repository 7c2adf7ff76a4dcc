"""Diversity controller: which topic each query is about, and how topics that repeat themselves are changed. Pure functions.

Queries are generated in waves. After each wave, the new texts of every topic are compared with the topic's earlier texts. A topic that
falls below a floor gets a higher temperature, then another wording of its system turn, and is then stopped; the remaining topics take
its turns. A wave's plan is a function of the settings and the log so far.
"""

import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any, Literal, NamedTuple

from delia_ray.core.records import make_row_id
from delia_ray.core.text.words import ngrams, split_words
from delia_ray.synthesis.query_config import DiversityController

Action = Literal["heat", "reword", "stop"]
_DIGITS = 4


@dataclass(frozen=True)
class TopicState:
    """How queries about a topic are generated at present."""

    temperature: float
    wording: int = 0
    """Index among the wordings of the steering system turn."""
    active: bool = True


TopicStates = Mapping[str, TopicState]
"""State by topic, in the order in which topics take turns."""


class PlannedQuery(NamedTuple):
    """One query to generate."""

    number: int
    topic: str
    temperature: float
    wording: int


@dataclass(frozen=True)
class TopicDiversity:
    """How diverse a topic's texts of one wave are, against each other and against its earlier texts; 1 where nothing repeats."""

    texts: int
    new_trigrams: float
    """Share of the word 3-grams that did not occur before; 1 where there are no 3-grams."""
    new_texts: float
    """Share of the texts that did not occur before; case and spacing make no difference."""


@dataclass(frozen=True)
class TopicAction:
    """An action on a topic and its reason: one line of the log."""

    wave: int
    topic: str
    measure: str
    value: float
    floor: float
    action: Action
    state: TopicState
    """The topic's new state."""


@dataclass(frozen=True)
class WaveSummary:
    """The last log line of a wave: the wave was measured, and the lines before it are all actions taken."""

    wave: int
    topics: int
    """Topics that are still active."""
    new_trigrams: float
    new_texts: float
    """Means over the topics that were measured."""


class TopicWindow:
    """The latest texts of each topic, ``window_texts`` at most."""

    def __init__(self, window_texts: int):
        self._texts: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=window_texts))

    def observe(self, texts: Iterable[tuple[str, str, str]]) -> dict[str, TopicDiversity]:
        """Measure a wave by topic, then add its texts to the window.

        Args:
            texts: (id, topic, text) of its rows, in any order.
        """
        texts_by_topic: dict[str, list[str]] = defaultdict(list)
        for _, topic, text in sorted(texts):
            texts_by_topic[topic].append(text)
        diversity = {topic: _measure_topic(self._texts[topic], new) for topic, new in sorted(texts_by_topic.items())}
        for topic, new in texts_by_topic.items():
            self._texts[topic].extend(new)
        return diversity


def initial_states(topics: Iterable[str], temperature: float) -> TopicStates:
    """Return the state of every topic without a controller."""
    return {topic: TopicState(temperature) for topic in topics}


def plan(states: TopicStates, numbers: Iterable[int]) -> list[PlannedQuery]:
    """Plan the queries of the given numbers: the active topics take turns."""
    turns = [(topic, state) for topic, state in states.items() if state.active]
    numbered_turns = ((number, *turns[number % len(turns)]) for number in numbers)
    return [PlannedQuery(number, topic, state.temperature, state.wording) for number, topic, state in numbered_turns]


def choose_actions(
    settings: DiversityController, wave: int, wordings: int, states: TopicStates, diversity: Mapping[str, TopicDiversity]
) -> list[TopicAction | WaveSummary]:
    """Choose the actions after a wave: a line for each topic below a floor, and the wave's summary.

    Topics furthest below their floor come first, and the last active topic is never stopped.
    """
    lines: list[TopicAction | WaveSummary] = []
    active = sum(state.active for state in states.values())
    measured = {topic: each for topic, each in diversity.items() if each.texts >= settings.fewest_texts and states[topic].active}
    for value, topic, measure, floor in sorted(_find_topics_below_floor(settings, measured)):
        action, state = _choose_action(settings, wordings, states[topic])
        if action == "stop" and active == 1:
            continue
        active -= action == "stop"
        lines.append(TopicAction(wave, topic, measure, value, floor, action, state))
    means = (_mean(each.new_trigrams for each in measured.values()), _mean(each.new_texts for each in measured.values()))
    return [*lines, WaveSummary(wave, active, *means)]


def apply_actions(states: TopicStates, lines: Iterable[TopicAction | WaveSummary]) -> TopicStates:
    """Return the states after the actions among ``lines``."""
    return {**states, **{line.topic: line.state for line in lines if isinstance(line, TopicAction)}}


def replay_plans(
    topics: Iterable[str], temperature: float, rows: int, wave_rows: int, log: Sequence[TopicAction | WaveSummary]
) -> Iterator[list[PlannedQuery]]:
    """Yield the plans of all waves of ``rows`` queries, from the log of the run that generated them."""
    states = initial_states(topics, temperature)
    for wave, numbers in enumerate(split_into_waves(rows, wave_rows)):
        yield plan(states, numbers)
        states = apply_actions(states, (line for line in log if line.wave == wave))


def split_into_waves(rows: int, wave_rows: int) -> list[range]:
    """Return the row numbers of each wave. More rows add waves and change no full one."""
    return [range(first, min(first + wave_rows, rows)) for first in range(0, rows, wave_rows)]


def format_log(lines: Iterable[TopicAction | WaveSummary]) -> str:
    """Serialize ``lines`` as JSON Lines."""
    return "".join(json.dumps(_flatten(asdict(line))) + "\n" for line in lines)


def parse_log(text: str) -> list[TopicAction | WaveSummary]:
    """Parse the lines of every complete wave; a killed run may leave an incomplete wave, or half a line, at the end."""
    lines = [_parse_line(json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    last = max((index for index, line in enumerate(lines) if isinstance(line, WaveSummary)), default=-1)
    return lines[: last + 1]


def _flatten(line: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in line.items() if name != "state"}, **line.get("state", {})}


def _parse_line(values: dict[str, Any]) -> TopicAction | WaveSummary:
    if "action" not in values:
        return WaveSummary(**values)
    state = TopicState(**{name: values.pop(name) for name in ("temperature", "wording", "active")})
    return TopicAction(**values, state=state)


def _measure_topic(earlier: Iterable[str], texts: Sequence[str]) -> TopicDiversity:
    earlier = list(earlier)
    new_trigrams = _share_of_new(chain.from_iterable(map(_trigrams, earlier)), chain.from_iterable(map(_trigrams, texts)))
    return TopicDiversity(len(texts), new_trigrams, _share_of_new(map(_hash_text, earlier), map(_hash_text, texts)))


def _share_of_new(earlier: Iterable[Any], items: Iterable[Any]) -> float:
    seen, count, new = set(earlier), 0, 0
    for item in items:
        count += 1
        new += item not in seen
        seen.add(item)
    return round(new / count, _DIGITS) if count else 1.0


def _trigrams(text: str) -> Iterator[tuple[str, ...]]:
    return ngrams(split_words(text), 3)


def _hash_text(text: str) -> str:
    return make_row_id(" ".join(text.casefold().split()))


def _find_topics_below_floor(
    settings: DiversityController, diversity: Mapping[str, TopicDiversity]
) -> Iterator[tuple[float, str, str, float]]:
    """Yield (value, topic, measure, floor) of each topic below a floor, with the measure that is furthest below its own floor."""
    for topic, values in diversity.items():
        measures = (("new_texts", values.new_texts, settings.new_texts), ("new_trigrams", values.new_trigrams, settings.new_trigrams))
        below = [(value - floor, value, topic, measure, floor) for measure, value, floor in measures if value < floor]
        if below:
            yield min(below)[1:]


def _choose_action(settings: DiversityController, wordings: int, state: TopicState) -> tuple[Action, TopicState]:
    """Return the next action on a topic (heat, then reword, then stop) and the state it leads to."""
    if state.temperature < settings.max_temperature and settings.temperature_step:
        hotter = round(min(state.temperature + settings.temperature_step, settings.max_temperature), _DIGITS)
        return "heat", replace(state, temperature=hotter)
    if state.wording + 1 < wordings:
        return "reword", replace(state, wording=state.wording + 1)
    return "stop", replace(state, active=False)


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return round(sum(numbers) / len(numbers), _DIGITS) if numbers else 1.0
