"""sacreBLEU 2.6: sufficient statistics of single rows, and the score of summed statistics, for a bootstrap over rows.

Can go when sacreBLEU's own significance tests take clusters of rows: https://github.com/mjpost/sacrebleu/blob/master/sacrebleu/significance.py.
"""

from collections.abc import Sequence
from typing import Any


def extract_statistics(scorer: Any, outputs: Sequence[str], references: Sequence[str]) -> list[list[int]]:
    """Statistics of each row by one of sacreBLEU's metrics; they add up."""
    return scorer._extract_corpus_statistics(list(outputs), [list(references)])


def score_statistics(scorer: Any, statistics: Sequence[int]) -> float:
    """The corpus score of summed statistics, 0 to 100."""
    return scorer._compute_score_from_stats(list(statistics)).score
