"""ROUGE-L: how much of two texts' words stands in the same order in both."""

from collections.abc import Sequence

from rapidfuzz import process
from rapidfuzz.distance import Indel

from delia_ray.words import words_of


def rouge_words(text: str) -> tuple[str, ...]:
    """The words of ``text``: what ROUGE-L compares. In scripts without spaces these are letters."""
    return tuple(words_of(text))


def rouge_l(first: str, second: str) -> float:
    """ROUGE-L F1 of two texts, 0..1: ``2 LCS / (m + n)`` over words, with LCS their longest common subsequence.

    This equals the normalised Indel similarity of the two word lists. Source: Lin, "ROUGE: A Package for Automatic
    Evaluation of Summaries" (2004), section 3, with equal weight on precision and recall.
    """
    return Indel.normalized_similarity(rouge_words(first), rouge_words(second))


def nearest(words: tuple[str, ...], others: Sequence[tuple[str, ...]], at_least: float = 0.0) -> tuple[float, int]:
    """ROUGE-L F1 of ``words`` with the most similar of ``others``, and its index; (0, -1) where there is none.

    Args:
        at_least: similarities well below this need not be found, which saves most of the work.
    """
    # rapidfuzz's own cut-off rounds: it misses scores equal to the bound.
    found = process.extractOne(words, others, scorer=Indel.normalized_similarity, score_cutoff=max(0.0, at_least - 0.01))
    return (0.0, -1) if found is None else (found[1], found[2])
