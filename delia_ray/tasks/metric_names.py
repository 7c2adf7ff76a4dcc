"""What ``task.metric`` may say."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from delia_ray.errors import UserError

JUDGED = ("comet", "bleurt")
"""Learned metrics, which need weights (``judges``)."""
METRIC_NAMES = ("exact_match", "contains", "json_valid", "json_match", "json_schema", "regex", "rouge_l", "bleu", "chrf", *JUDGED)
"""What ``task.metric`` may name, besides a function of the user's own."""
_OWN_METRIC = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_own_metric(name: str) -> bool:
    """Whether ``name`` is ``module:function``."""
    return _OWN_METRIC.fullmatch(name) is not None


def _known(name: str) -> str:
    if name not in METRIC_NAMES and not is_own_metric(name):
        raise UserError(f"no such metric; use {', '.join(METRIC_NAMES)}, or a function of your own as module:function")
    return name


def _several(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _apart(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise UserError("a metric is named twice; name each once")
    return names


BleuTokens = Literal["auto", "13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "flores101", "flores200", "none"]
"""sacreBLEU's tokenizers. ``auto``: what it takes for the script of most targets (``zh``, ``ja-mecab``, ``ko-mecab``, ``13a``), and
``char`` for other scripts without spaces, or where the package of the one that fits is not installed."""


def check_bleu_tokens(metric: tuple[str, ...], tokens: BleuTokens) -> None:
    """Refuse a choice that nothing reads.

    Raises:
        UserError: ``metric`` has no BLEU.
    """
    if tokens != "auto" and "bleu" not in metric:
        raise UserError(f"bleu_tokens: found {tokens!r}, but only metric bleu reads it; add it to task.metric or leave bleu_tokens out")


MetricName = Annotated[str, AfterValidator(_known)]
Metrics = Annotated[tuple[MetricName, ...], BeforeValidator(_several), Field(min_length=1), AfterValidator(_apart)]
"""One metric or several: ``chrf`` or ``[chrf, bleu]``."""
