"""BLEU and chrF++ of a corpus, from counts of each row, so that rows can be drawn again and again. The counting is sacreBLEU's.

Legend: N rows, R resamples, K counts of a row.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

CORPUS_METRICS: Mapping[str, Callable[[], Any]] = {"bleu": BLEU, "chrf": lambda: CHRF(word_order=2)}
"""Name in ``task.metric`` -> sacreBLEU's metric. ``bleu`` is its default (13a tokens), ``chrf`` is chrF++."""


def row_counts(metric: str, outputs: Sequence[str], references: Sequence[str]) -> NDArray[np.int64]:
    """[N, K] matches and lengths of each row, which add up to those of the corpus."""
    if not outputs:
        return np.empty((0, 0), dtype=np.int64)
    return np.array(CORPUS_METRICS[metric]()._extract_corpus_statistics(outputs, [references]), dtype=np.int64)


def corpus_scores(metric: str, counts_RNK: NDArray[np.int64]) -> NDArray[np.float64]:
    """[R] the score of each corpus, 0 to 100.

    BLEU: Papineni et al., ACL 2002. chrF++: Popović, WMT 2017. Both as sacreBLEU computes them (Post, WMT 2018).
    """
    scorer = CORPUS_METRICS[metric]()
    return np.array([scorer._compute_score_from_stats(counts.tolist()).score for counts in counts_RNK.sum(axis=1)])


@cache
def signature(metric: str) -> str:
    """What sacreBLEU wants to be quoted with a score, its version included."""
    scorer = CORPUS_METRICS[metric]()
    scorer.corpus_score(["a"], [["a"]])  # the signature tells how many references there were
    return str(scorer.get_signature())
