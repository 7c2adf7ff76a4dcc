import re
from itertools import combinations, islice

import pytest

from delia_ray.core.text.rouge import rouge_l, split_rouge_words
from delia_ray.rewriting.config import GrammarRewrite
from delia_ray.rewriting.grammar import GrammarWriter, load_grammar
from delia_ray.rewriting.wording_filter import SHAPE_WORDS, Accepted, WordingFilter
from delia_ray.rewriting.wordings import Wordings, collect

FORBIDDEN = (*SHAPE_WORDS, "thought", "hallucination", "yes", "no")
SEEDS = range(5)


def make_filter(config: GrammarRewrite) -> WordingFilter:
    return WordingFilter("<sep>", FORBIDDEN, config.max_similarity)


def collect_default_wordings(seed: int) -> Wordings:
    config = GrammarRewrite(seed=seed)
    counts = {"train": config.train_wordings, "dev": config.dev_wordings, "test": config.test_wordings}
    return collect(GrammarWriter("<sep>", seed), make_filter(config), **counts, seed=seed)[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_default_counts_are_met_and_every_pair_of_wordings_differs_enough(seed: int) -> None:
    wordings = collect_default_wordings(seed)
    assert (len(wordings.train), len(wordings.dev), len(wordings.test)) == (40, 16, 40)
    everything = wordings.train + wordings.dev + wordings.test
    assert max(rouge_l(a, b) for a, b in combinations(everything, 2)) < 0.8


@pytest.mark.parametrize("seed", SEEDS)
def test_the_grammar_has_150_wordings_to_give(seed: int) -> None:
    wording_filter = make_filter(GrammarRewrite())
    assert sum(isinstance(wording_filter.check(wording), Accepted) for wording in GrammarWriter("<sep>", seed).propose(10)) >= 150


def test_same_seed_same_wordings_and_another_seed_others() -> None:
    assert collect_default_wordings(3) == collect_default_wordings(3)
    assert collect_default_wordings(3) != collect_default_wordings(4)


def test_no_rule_of_the_grammar_leaks_the_meaning() -> None:
    grammar = load_grammar()
    rules = [rule for group in (grammar.sentences, grammar.slots) for rules in group.values() for rule in rules]
    for rule in rules:
        result = WordingFilter("<sep>", FORBIDDEN, 1.0).check("<sep> stands before " + re.sub(r"\{\w+\}", "it", rule))
        assert isinstance(result, Accepted), result


def test_every_slot_that_is_named_exists_and_every_slot_is_used() -> None:
    grammar = load_grammar()
    rules = [rule for group in (grammar.sentences, grammar.slots) for rules in group.values() for rule in rules]
    named = {name for rule in rules for name in re.findall(r"\{(\w+)\}", rule)}
    assert named == {*grammar.slots, "token"}


def count_words(rule: str) -> tuple[int, int]:
    """Words in the shortest and in the longest sentence that ``rule`` can become."""
    slots = load_grammar().slots
    own = len(split_rouge_words(re.sub(r"\{\w+\}", " ", rule)))
    shortest = longest = own
    for name in re.findall(r"\{(\w+)\}", rule):
        ranges = [count_words(inner) for inner in slots[name]] if name in slots else [(1, 1)]
        shortest += min(low for low, _ in ranges)
        longest += max(high for _, high in ranges)
    return shortest, longest


def test_no_wording_has_fewer_than_4_or_more_than_30_words() -> None:
    for rules in load_grammar().sentences.values():
        for rule in rules:
            shortest, longest = count_words(rule)
            assert 4 <= shortest <= longest <= 30, (rule, shortest, longest)


def test_wordings_start_like_sentences_and_leave_no_slot_open() -> None:
    for wording in islice(GrammarWriter("<sep>", 0).propose(62), 1000):
        assert re.match(r"[A-Z]|[`\"]?<sep>", wording), wording
        assert not re.search(r"[{}]|  ", wording), wording


def test_about_half_of_the_wordings_write_the_token_bare() -> None:
    wordings = list(islice(GrammarWriter("<sep>", 0).propose(62), 1000))
    bare = sum("`<sep>`" not in wording and '"<sep>"' not in wording for wording in wordings)
    assert 0.4 < bare / len(wordings) < 0.6


def test_a_token_that_looks_like_a_slot_is_written_as_it_is() -> None:
    assert all("{Apply}" in wording for wording in GrammarWriter("{Apply}", 0).propose(1))
