from collections.abc import Iterator
from itertools import combinations

import pytest

from delia_ray.core.errors import UserError
from delia_ray.core.text.rouge import rouge_l
from delia_ray.rewriting.wording_filter import WordingFilter
from delia_ray.rewriting.wordings import collect

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
DISTINCT = [f"<sep> {word} {word}{word} {word}{word}{word}" for word in NUMBERS]


class ListWriter:
    """Proposes the wordings of a list, and counts how many were taken."""

    def __init__(self, wordings: list[str]) -> None:
        self.wordings = wordings
        self.taken = 0

    def propose(self, count: int) -> Iterator[str]:
        for wording in self.wordings:
            self.taken += 1
            yield wording


def make_filter() -> WordingFilter:
    return WordingFilter("<sep>", ("label",), 0.8)


def test_splits_share_no_wording_and_no_near_copy() -> None:
    near_copies = [f"{wording}!" for wording in DISTINCT]
    pairs = [wording for pair in zip(DISTINCT, near_copies, strict=True) for wording in pair]
    wordings, rejected = collect(ListWriter(pairs), make_filter(), train=4, dev=2, test=2, seed=0)
    everything = wordings.train + wordings.dev + wordings.test
    assert set(everything) == set(DISTINCT)
    assert (len(wordings.train), len(wordings.dev), len(wordings.test)) == (4, 2, 2)
    assert max(rouge_l(a, b) for a, b in combinations(everything, 2)) < 0.8
    assert [rejection.wording for rejection in rejected] == near_copies[:-1]


def test_which_split_a_wording_goes_to_follows_from_the_seed_and_not_from_the_order_of_arrival() -> None:
    def collect_test(order: list[str], seed: int) -> tuple[str, ...]:
        return collect(ListWriter(order), make_filter(), train=4, dev=2, test=2, seed=seed)[0].test

    assert collect_test(DISTINCT, 0) == collect_test(DISTINCT[::-1], 0)
    assert len({collect_test(DISTINCT, seed) for seed in range(5)}) > 1


def test_nothing_is_taken_from_the_writer_once_there_are_enough() -> None:
    writer = ListWriter(DISTINCT)
    collect(writer, make_filter(), train=2, dev=0, test=1, seed=0)
    assert writer.taken == 3


def test_a_writer_that_runs_dry_is_an_error_that_counts_what_is_missing_and_shows_ways_out() -> None:
    writer = ListWriter([*DISTINCT[:5], "<sep> with a label", "a wording without the token"])
    with pytest.raises(UserError) as error:
        collect(writer, make_filter(), train=5, dev=1, test=2, seed=0)
    message = str(error.value)
    assert "3 of 8 wordings are missing" in message
    assert "1 for leak" in message
    assert "1 for placeholder" in message
    assert "rewrite.train_wordings" in message
    assert "rewrite.attempts_per_wording" in message
    assert "\n" not in message
