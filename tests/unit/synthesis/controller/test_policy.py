from dataclasses import replace

from delia_ray.synthesis.controller.policy import (
    PlannedQuery,
    TopicAction,
    TopicDiversity,
    TopicState,
    TopicWindow,
    WaveSummary,
    apply_actions,
    choose_actions,
    format_log,
    initial_states,
    parse_log,
    plan,
    replay_plans,
    split_into_waves,
)
from delia_ray.synthesis.query_config import DiversityController

SETTINGS = DiversityController(wave_rows=6, fewest_texts=2, temperature_step=0.1, max_temperature=1.2)
TOPICS = ("art", "bees", "cars")
GOOD, REPETITIVE = TopicDiversity(texts=2, new_trigrams=0.9, new_texts=1.0), TopicDiversity(texts=2, new_trigrams=0.2, new_texts=0.7)


def run(rows: int, diversity: dict[str, TopicDiversity]) -> tuple[list[list[PlannedQuery]], list[TopicAction | WaveSummary]]:
    """Plans and log of a run in which every wave measures the same."""
    states, plans, log = initial_states(TOPICS, 1.0), [], []
    for wave, numbers in enumerate(split_into_waves(rows, SETTINGS.wave_rows)):
        plans.append(plan(states, numbers))
        lines = choose_actions(SETTINGS, wave, 2, states, diversity)
        states = apply_actions(states, lines)
        log += lines
    return plans, log


def test_a_topic_below_its_floor_is_heated_then_reworded_then_stopped_and_the_others_take_its_rows():
    plans, log = run(30, {"art": GOOD, "bees": REPETITIVE, "cars": GOOD})
    assert [(line.wave, line.topic, line.action) for line in log if isinstance(line, TopicAction)] == [
        (0, "bees", "heat"), (1, "bees", "heat"), (2, "bees", "reword"), (3, "bees", "stop"),
    ]  # fmt: skip
    assert [[query.temperature for query in wave if query.topic == "bees"] for wave in plans] == [
        [1.0] * 2,
        [1.1] * 2,
        [1.2] * 2,
        [1.2] * 2,
        [],
    ]
    assert [query.topic for query in plans[4]] == ["art", "cars"] * 3
    assert [query.number for wave in plans for query in wave] == list(range(30))


def test_the_log_alone_gives_the_plans_again():
    plans, log = run(30, {"art": GOOD, "bees": REPETITIVE, "cars": replace(REPETITIVE, new_texts=0.9)})
    assert list(replay_plans(TOPICS, 1.0, 30, 6, parse_log(format_log(log)))) == plans


def test_a_log_that_was_cut_short_ends_with_its_last_complete_wave():
    log = run(12, {"bees": REPETITIVE})[1]
    text = format_log(log)
    assert parse_log(text) == log
    assert parse_log(text[:-9]) == [line for line in log if line.wave == 0]


def test_more_rows_change_no_complete_wave():
    diversity = {"art": REPETITIVE, "bees": GOOD, "cars": GOOD}
    assert run(40, diversity)[0][:5] == run(30, diversity)[0]


def test_the_last_topic_goes_on_whatever_it_writes():
    plans, log = run(60, dict.fromkeys(TOPICS, REPETITIVE))
    stopped = [line.topic for line in log if isinstance(line, TopicAction) and line.action == "stop"]
    assert stopped == ["art", "bees"]
    assert {query.topic for query in plans[-1]} == {"cars"}


def test_a_topic_with_too_few_texts_to_tell_is_left_alone():
    lines = choose_actions(SETTINGS, 0, 2, initial_states(TOPICS, 1.0), {"art": replace(REPETITIVE, texts=1)})
    assert lines == [WaveSummary(wave=0, topics=3, new_trigrams=1.0, new_texts=1.0)]


def test_the_measure_furthest_below_its_floor_is_named():
    lines = choose_actions(SETTINGS, 3, 2, initial_states(TOPICS, 1.0), {"art": REPETITIVE})
    assert lines[0] == TopicAction(3, "art", "new_trigrams", 0.2, 0.5, "heat", TopicState(1.1))


def test_texts_are_new_if_neither_this_wave_nor_the_window_has_them():
    window = TopicWindow(window_texts=2)
    first = window.observe([("2", "t", "how do bees fly so far"), ("1", "t", "How do bees  fly so far"), ("3", "u", "why")])
    assert first == {"t": TopicDiversity(2, 0.5, 0.5), "u": TopicDiversity(1, 1.0, 1.0)}
    assert window.observe([("4", "t", "how do bees fly"), ("5", "t", "what do ants eat")])["t"] == TopicDiversity(2, 0.5, 1.0)
    assert window.observe([("6", "t", "how do bees fly so far")])["t"] == TopicDiversity(1, 0.5, 1.0)


def test_diversity_does_not_depend_on_the_order_in_which_rows_come_back():
    rows = [(str(number), "t", f"the text of number {number % 7}") for number in range(20)]
    one, other = TopicWindow(5), TopicWindow(5)
    assert one.observe(rows) == other.observe(reversed(rows))
    assert one.observe(rows[:3]) == other.observe(rows[2::-1])
