"""A user's pattern never holds a run up for long."""

import time

import pytest

from delia_ray.evaluation.text_metrics import regex
from delia_ray.patterns import backtracks, matches_whole
from delia_ray.synthesis.structure import RegexForm, has_form

PATTERN = r"(?:[a-z]|[a-z]{2})+;"
ANSWER = "thequickbrownfoxjumpsoverthelazydogandthenitgoesonandonwithoutanyendtoit; no"


def test_a_match_that_takes_too_long_counts_as_none_and_ends_soon() -> None:
    began = time.process_time()
    assert regex(PATTERN)(ANSWER, "") == 0
    assert has_form(RegexForm(kind="regex", pattern=PATTERN), ANSWER) is False
    with pytest.raises(TimeoutError):
        matches_whole(PATTERN, ANSWER)
    assert time.process_time() - began < 10
    assert regex(PATTERN)("thequickfox;", "") == 1


def test_a_repeat_in_a_repeat_is_quick_where_the_text_has_no_end_for_it() -> None:
    began = time.process_time()
    assert regex(r"(\w+\s?)+\.")("it goes on and on " * 20, "") == 0
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("pattern", "like", "does"),
    [
        (PATTERN, "ab;", True),
        (r"\d+ km = \d+ m", "3 km = 3000 m", False),
        (r".*a.*b.*c.*", "a b c", False),
        (r"\{.*\}", "{}", False),
        (r"[^,]+(, [^,]+)*", "one, two", False),
        (r"x", "", False),
    ],
)
def test_patterns_whose_time_doubles_with_each_character_are_told_from_others(pattern: str, like: str, does: bool) -> None:
    assert backtracks(pattern, like) is does
