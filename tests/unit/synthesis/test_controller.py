from dataclasses import replace

from delia_ray.synthesis.controller import (
    Ask,
    Line,
    Memory,
    Reading,
    Steering,
    Wave,
    apply,
    decide,
    plan,
    read_lines,
    replay,
    start,
    waves,
    write_lines,
)
from delia_ray.synthesis.query_config import DiversityController

SETTINGS = DiversityController(wave_rows=6, fewest_texts=2, temperature_step=0.1, max_temperature=1.2)
TOPICS = ("art", "bees", "cars")
GOOD, SAGGED = Reading(texts=2, new_trigrams=0.9, new_texts=1.0), Reading(texts=2, new_trigrams=0.2, new_texts=0.7)


def run(rows: int, readings: dict[str, Reading]) -> tuple[list[list[Ask]], list[Line | Wave]]:
    """Plans and log of a run in which topics always read the same."""
    steerings, plans, log = start(TOPICS, 1.0), [], []
    for wave, numbers in enumerate(waves(rows, SETTINGS.wave_rows)):
        plans.append(plan(steerings, numbers))
        lines = decide(SETTINGS, wave, 2, steerings, readings)
        steerings = apply(steerings, lines)
        log += lines
    return plans, log


def test_a_topic_that_sags_is_heated_then_reworded_then_stopped_and_the_others_take_its_rows():
    plans, log = run(30, {"art": GOOD, "bees": SAGGED, "cars": GOOD})
    assert [(line.wave, line.topic, line.action) for line in log if isinstance(line, Line)] == [
        (0, "bees", "heat"), (1, "bees", "heat"), (2, "bees", "reword"), (3, "bees", "stop"),
    ]  # fmt: skip
    assert [[ask.temperature for ask in wave if ask.topic == "bees"] for wave in plans] == [[1.0] * 2, [1.1] * 2, [1.2] * 2, [1.2] * 2, []]
    assert [ask.topic for ask in plans[4]] == ["art", "cars"] * 3
    assert [ask.number for wave in plans for ask in wave] == list(range(30))


def test_the_log_alone_gives_the_plans_again():
    plans, log = run(30, {"art": GOOD, "bees": SAGGED, "cars": replace(SAGGED, new_texts=0.9)})
    assert list(replay(TOPICS, 1.0, 30, 6, read_lines(write_lines(log)))) == plans


def test_a_log_that_was_cut_short_ends_with_its_last_whole_wave():
    log = run(12, {"bees": SAGGED})[1]
    text = write_lines(log)
    assert read_lines(text) == log
    assert read_lines(text[:-9]) == [line for line in log if line.wave == 0]


def test_more_rows_change_no_whole_wave():
    readings = {"art": SAGGED, "bees": GOOD, "cars": GOOD}
    assert run(40, readings)[0][:5] == run(30, readings)[0]


def test_the_last_topic_goes_on_whatever_it_writes():
    plans, log = run(60, dict.fromkeys(TOPICS, SAGGED))
    stopped = [line.topic for line in log if isinstance(line, Line) and line.action == "stop"]
    assert stopped == ["art", "bees"]
    assert {ask.topic for ask in plans[-1]} == {"cars"}


def test_a_topic_with_too_few_texts_to_tell_is_left_alone():
    lines = decide(SETTINGS, 0, 2, start(TOPICS, 1.0), {"art": replace(SAGGED, texts=1)})
    assert lines == [Wave(wave=0, topics=3, new_trigrams=1.0, new_texts=1.0)]


def test_the_measure_furthest_below_its_floor_is_named():
    lines = decide(SETTINGS, 3, 2, start(TOPICS, 1.0), {"art": SAGGED})
    assert lines[0] == Line(3, "art", "new_trigrams", 0.2, 0.5, "heat", Steering(1.1))


def test_texts_are_new_if_neither_this_wave_nor_the_window_has_them():
    memory = Memory(window_texts=2)
    first = memory.observe([("2", "t", "how do bees fly so far"), ("1", "t", "How do bees  fly so far"), ("3", "u", "why")])
    assert first == {"t": Reading(2, 0.5, 0.5), "u": Reading(1, 1.0, 1.0)}
    assert memory.observe([("4", "t", "how do bees fly"), ("5", "t", "what do ants eat")])["t"] == Reading(2, 0.5, 1.0)
    assert memory.observe([("6", "t", "how do bees fly so far")])["t"] == Reading(1, 0.5, 1.0)


def test_readings_do_not_depend_on_the_order_in_which_rows_come_back():
    rows = [(str(number), "t", f"the text of number {number % 7}") for number in range(20)]
    one, other = Memory(5), Memory(5)
    assert one.observe(rows) == other.observe(reversed(rows))
    assert one.observe(rows[:3]) == other.observe(rows[2::-1])
