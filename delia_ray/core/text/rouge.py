"""ROUGE-L: similarity of two texts by their longest common subsequence of words."""

from collections.abc import Sequence

from rapidfuzz import process
from rapidfuzz.distance import Indel

from delia_ray.core.text.words import split_words


def split_rouge_words(text: str) -> tuple[str, ...]:
    """Split ``text`` into the words that ROUGE-L compares; in scripts without spaces these are letters."""
    return tuple(split_words(text))


def rouge_l(first: str, second: str) -> float:
    """ROUGE-L F1 of two texts, 0..1: ``2 LCS / (m + n)`` over words, with LCS their longest common subsequence.

    This equals the normalized Indel similarity of the two word lists. Source: Lin, "ROUGE: A Package for Automatic
    Evaluation of Summaries" (2004), section 3, with equal weight on precision and recall.
    """
    return Indel.normalized_similarity(split_rouge_words(first), split_rouge_words(second))


def find_most_similar(words: tuple[str, ...], others: Sequence[tuple[str, ...]], at_least: float = 0.0) -> tuple[float, int]:
    """Return the highest ROUGE-L F1 of ``words`` with any of ``others``, and its index; (0, -1) if there is none.

    Args:
        at_least: similarities well below this are not computed, which saves most of the work.
    """
    # rapidfuzz's own cut-off rounds: it misses scores equal to the bound.
    best = process.extractOne(words, others, scorer=Indel.normalized_similarity, score_cutoff=max(0.0, at_least - 0.01))
    return (0.0, -1) if best is None else (best[1], best[2])
