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
from sacrebleu.utils import SACREBLEU_DIR

from delia_ray.errors import UserError
from delia_ray.words import Script, main_script

CORPUS_METRICS: Mapping[str, Callable[[], Any]] = {"bleu": BLEU, "chrf": lambda: CHRF(word_order=2)}
"""Name in ``task.metric`` -> sacreBLEU's metric with its defaults. ``chrf`` is chrF++."""
DEFAULT_TOKENS = "13a"
_TOKENS: dict[Script, tuple[str, ...]] = {
    "chinese": ("zh",),
    "japanese": ("ja-mecab", "char"),
    "korean": ("ko-mecab", "char"),
    "other unspaced": ("char",),
    "spaced": (DEFAULT_TOKENS,),
}
"""What sacreBLEU takes for a target language, and ``char`` for those without spaces that it has nothing for."""
_INSTALL = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}


def _scorer(metric: str, tokens: str = DEFAULT_TOKENS) -> Any:
    """sacreBLEU's metric; ``tokens`` name BLEU's tokenizer.

    Raises:
        UserError: a package or a model of the tokenizer is missing.
    """
    if metric != "bleu":
        return CORPUS_METRICS[metric]()
    try:
        return BLEU(tokenize=tokens)
    except (RuntimeError, ImportError, OSError, SystemExit) as error:
        if tokens in _INSTALL or isinstance(error, ImportError):
            reason = f"needs a package; pip install '{_INSTALL.get(tokens, 'sentencepiece')}'"
        else:
            reason = f"needs its model in sacreBLEU's cache ({SACREBLEU_DIR}/models), which cannot be downloaded ({error}); bring it"
        raise UserError(f"task.bleu_tokens: {tokens} {reason}, or choose char") from None


def check_tokens(tokens: str) -> None:
    """Refuse a tokenizer of BLEU that cannot be used here.

    Raises:
        UserError: a package or a model of it is missing.
    """
    _scorer("bleu", tokens)


def tokens_for(references: Sequence[str]) -> str:
    """The tokenizer that fits the script of most words of ``references``; ``char`` where the one for it is not installed."""
    return next(tokens for tokens in _TOKENS[main_script(references)] if _is_there(tokens))


def _is_there(tokens: str) -> bool:
    try:
        check_tokens(tokens)
    except UserError:
        return False
    return True


def row_counts(metric: str, outputs: Sequence[str], references: Sequence[str], tokens: str | None = None) -> NDArray[np.int64]:
    """[N, K] matches and lengths of each row, which add up to those of the corpus.

    Args:
        tokens: BLEU's tokenizer. None: what fits the references.
    """
    if not outputs:
        return np.empty((0, 0), dtype=np.int64)
    counting = _scorer(metric, tokens or tokens_for(references))
    return np.array(counting._extract_corpus_statistics(outputs, [references]), dtype=np.int64)


def corpus_scores(metric: str, counts_RNK: NDArray[np.int64]) -> NDArray[np.float64]:
    """[R] the score of each corpus, 0 to 100.

    BLEU: Papineni et al., ACL 2002. chrF++: Popović, WMT 2017. Both as sacreBLEU computes them (Post, WMT 2018).
    """
    adding = _scorer(metric)
    return np.array([adding._compute_score_from_stats(counts.tolist()).score for counts in counts_RNK.sum(axis=1)])


@cache
def signature(metric: str, tokens: str = DEFAULT_TOKENS) -> str:
    """What sacreBLEU wants to be quoted with a score, its version and BLEU's tokenizer included."""
    quoted = _scorer(metric, tokens)
    quoted.corpus_score(["a"], [["a"]])  # the signature tells how many references there were
    return str(quoted.get_signature())
