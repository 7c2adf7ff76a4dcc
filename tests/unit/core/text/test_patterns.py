"""Time limits of the user's regular expressions."""

import time

import pytest

from delia_ray.core.text.patterns import has_catastrophic_backtracking, is_full_match
from delia_ray.evaluation.metrics.text_metrics import make_regex_metric
from delia_ray.synthesis.structured_output import RegexForm, has_form

PATTERN = r"(?:[a-z]|[a-z]{2})+;"
ANSWER = "thequickbrownfoxjumpsoverthelazydogandthenitgoesonandonwithoutanyendtoit; no"


def test_a_match_that_exceeds_the_time_limit_counts_as_no_match() -> None:
    start = time.process_time()
    assert make_regex_metric(PATTERN)(ANSWER, "") == 0
    assert has_form(RegexForm(kind="regex", pattern=PATTERN), ANSWER) is False
    with pytest.raises(TimeoutError):
        is_full_match(PATTERN, ANSWER)
    assert time.process_time() - start < 10
    assert make_regex_metric(PATTERN)("thequickfox;", "") == 1


def test_a_nested_repeat_is_fast_if_the_text_lacks_its_last_character() -> None:
    start = time.process_time()
    assert make_regex_metric(r"(\w+\s?)+\.")("it goes on and on " * 20, "") == 0
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("pattern", "example", "expected"),
    [
        (PATTERN, "ab;", True),
        (r"\d+ km = \d+ m", "3 km = 3000 m", False),
        (r".*a.*b.*c.*", "a b c", False),
        (r"\{.*\}", "{}", False),
        (r"[^,]+(, [^,]+)*", "one, two", False),
        (r"x", "", False),
    ],
)
def test_patterns_of_exponential_time_are_detected(pattern: str, example: str, expected: bool) -> None:
    assert has_catastrophic_backtracking(pattern, example) is expected
