import math

import pytest

from delia_ray.synthesis.diversity.lexical import compression_ratio, distinct_n, entropy, extract_ngrams, extract_opening, self_bleu


def bleu_of(*texts: str) -> float:
    return self_bleu(extract_ngrams([text.split() for text in texts]), range(len(texts)))


def distinct_of(texts: list[list[str]], n: int) -> float:
    return distinct_n(extract_ngrams(texts)[n - 1], range(len(texts)))


def test_distinct_counts_n_grams_within_texts_only():
    assert distinct_of([["a", "b"], ["a", "b"]], 1) == 0.5
    assert distinct_of([["a", "b"], ["b", "c"]], 2) == 1.0
    assert distinct_of([["a", "b", "a", "b"]], 2) == pytest.approx(2 / 3)
    assert distinct_of([["a"], []], 2) == 0.0
    assert distinct_of([[], []], 1) == 0.0


def test_copies_have_a_self_bleu_of_1_however_short():
    assert bleu_of("a b c d e", "a b c d e", "a b c d e") == pytest.approx(1)
    assert bleu_of("hi", "hi") == pytest.approx(1)


def test_texts_that_share_no_word_have_a_self_bleu_of_0():
    assert bleu_of("a b c d", "e f g h", "i j") == 0
    assert bleu_of("alone in the pool") == bleu_of("", "") == 0


def test_self_bleu_is_the_papers_formula_worked_by_hand():
    # Each against the other: 4 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples; equally long.
    assert bleu_of("the cat sat down here", "the cat sat down there") == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    # "a a" may match one "a" only, and no pair (0.1 matches); "a" is one word against two, so its brevity costs exp(1 - 2).
    assert bleu_of("a a", "a") == pytest.approx(((1 / 2 * 0.1) ** 0.5 + math.exp(-1)) / 2)


def test_self_bleu_takes_the_best_count_among_all_others():
    # The first text's two "a" are both in the second, though the third has one; lengths are equal.
    first = (2 / 2 * 1 / 1) ** 0.5
    third = (1 / 2 * 0.1) ** 0.5
    assert bleu_of("a a", "a a", "a b") == pytest.approx((2 * first + third) / 3)


def test_repetition_raises_the_compression_ratio():
    assert compression_ratio(["the same text again"] * 50) > 10 * compression_ratio(["the same text again"])


def test_entropy_is_the_logarithm_of_equally_frequent_labels():
    assert entropy(["a", "b", "c", "d"] * 5) == pytest.approx(2)
    assert entropy(["a"] * 9) == 0
    assert entropy(["a", "a", "a", "b"]) == pytest.approx(0.75 * math.log2(4 / 3) + 0.25 * 2)


def test_an_opening_is_two_words_whatever_stands_around_them():
    assert extract_opening("“What is”, he said") == extract_opening("what IS it?") == "what is"
    assert extract_opening("I'm glad to") == "i'm glad"
    assert extract_opening("!") == ""
