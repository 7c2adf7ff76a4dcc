"""Corpus BLEU and chrF++ from sufficient statistics of each row, which a bootstrap can add up again. The statistics are sacreBLEU's.

Shape legend: N rows, R resamples, K statistics of a row.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.utils import SACREBLEU_DIR

from delia_ray.core.errors import UserError
from delia_ray.core.text.words import Script, detect_script
from delia_ray.upstream.sacrebleu_statistics import extract_statistics, score_statistics

CORPUS_METRICS: Mapping[str, Callable[[], Any]] = {"bleu": BLEU, "chrf": lambda: CHRF(word_order=2)}
"""Name in ``task.metric`` -> sacreBLEU's metric with its defaults. ``chrf`` is chrF++."""
DEFAULT_TOKENIZER = "13a"
_TOKENIZERS: dict[Script, tuple[str, ...]] = {
    "chinese": ("zh",),
    "japanese": ("ja-mecab", "char"),
    "korean": ("ko-mecab", "char"),
    "other unspaced": ("char",),
    "spaced": (DEFAULT_TOKENIZER,),
}
"""Script -> sacreBLEU's tokenizers for it, in order of preference; ``char`` for scripts without spaces that sacreBLEU has none for."""
_PACKAGES = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}
"""Tokenizer -> package to install."""


def _make_scorer(metric: str, tokenizer: str = DEFAULT_TOKENIZER) -> Any:
    """Create sacreBLEU's metric object; ``tokenizer`` names BLEU's tokenizer.

    Raises:
        UserError: a package or a model of the tokenizer is missing.
    """
    if metric != "bleu":
        return CORPUS_METRICS[metric]()
    try:
        return BLEU(tokenize=tokenizer)
    except (RuntimeError, ImportError, OSError, SystemExit) as error:
        if tokenizer in _PACKAGES or isinstance(error, ImportError):
            reason = f"needs a package; pip install '{_PACKAGES.get(tokenizer, 'sentencepiece')}'"
        else:
            reason = f"needs its model in sacreBLEU's cache ({SACREBLEU_DIR}/models), which cannot be downloaded ({error}); bring it"
        raise UserError(f"task.bleu_tokens: {tokenizer} {reason}, or choose char") from None


def check_bleu_tokenizer(tokenizer: str) -> None:
    """Check that a tokenizer of BLEU can be used on this machine.

    Raises:
        UserError: a package or a model of it is missing.
    """
    _make_scorer("bleu", tokenizer)


def choose_bleu_tokenizer(references: Sequence[str]) -> str:
    """Return BLEU's tokenizer for the script of most words of ``references``; ``char`` if the one for that script is not installed."""
    return next(tokenizer for tokenizer in _TOKENIZERS[detect_script(references)] if _is_available(tokenizer))


def _is_available(tokenizer: str) -> bool:
    try:
        check_bleu_tokenizer(tokenizer)
    except UserError:
        return False
    return True


def extract_row_statistics(
    metric: str, outputs: Sequence[str], references: Sequence[str], tokenizer: str | None = None
) -> NDArray[np.int64]:
    """Extract the sufficient statistics of each row, ``[N, K]``: matches and lengths, whose sums are the corpus statistics.

    Args:
        metric: ``bleu`` or ``chrf``.
        outputs: one text a row.
        references: one reference a row.
        tokenizer: BLEU's tokenizer. None: chosen by the script of the references.
    """
    if not outputs:
        return np.empty((0, 0), dtype=np.int64)
    scorer = _make_scorer(metric, tokenizer or choose_bleu_tokenizer(references))
    return np.array(extract_statistics(scorer, outputs, references), dtype=np.int64)


def score_corpora(metric: str, statistics_RNK: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the score of each of R corpora from the statistics of their rows: ``[R]``, 0 to 100.

    BLEU: Papineni et al., ACL 2002. chrF++: Popović, WMT 2017. Both as sacreBLEU computes them (Post, WMT 2018).
    """
    scorer = _make_scorer(metric)
    return np.array([score_statistics(scorer, sums.tolist()) for sums in statistics_RNK.sum(axis=1)])


@cache
def get_signature(metric: str, tokenizer: str = DEFAULT_TOKENIZER) -> str:
    """Return sacreBLEU's signature of a score, with its version and BLEU's tokenizer."""
    scorer = _make_scorer(metric, tokenizer)
    scorer.corpus_score(["a"], [["a"]])  # the signature contains the number of references
    return str(scorer.get_signature())
