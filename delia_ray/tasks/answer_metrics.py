"""The metrics of answers that ``task.metric`` accepts: one table of what is known of each before it is computed."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from delia_ray.core.errors import UserError

MetricScale: TypeAlias = Literal["rates", "scores", "points", "nats"]
"""rates: proportions of items; scores: means of items' scores from 0 to 1; points: scores of the whole corpus from 0 to 100; nats: KL
divergence a token. ``score.margins`` has an equivalence margin for each."""
Better: TypeAlias = Literal["higher", "lower"]


class AnswerMetric(NamedTuple):
    """A metric of answers: its scale, its better direction, and what a target must score by it."""

    scale: MetricScale = "scores"
    better: Better = "higher"
    is_form: bool = False
    """Whether it asks for nothing but a form that the task names, so that every target must score 1."""
    is_learned: bool = False
    """Whether a trained model computes it, with weights from ``learned_metrics``: about 0 to 1, but not restricted to that range."""

    @property
    def is_binary(self) -> bool:
        """Whether it is 0 or 1 for every answer."""
        return self.scale == "rates"


ANSWER_METRICS: Mapping[str, AnswerMetric] = {
    "exact_match": AnswerMetric("rates"),
    "contains": AnswerMetric("rates"),
    "json_valid": AnswerMetric("rates"),
    "json_match": AnswerMetric("rates"),
    "json_schema": AnswerMetric("rates", is_form=True),
    "regex": AnswerMetric("rates", is_form=True),
    "rouge_l": AnswerMetric("scores"),
    "bleu": AnswerMetric("points"),
    "chrf": AnswerMetric("points"),
    "comet": AnswerMetric("scores", is_learned=True),
    "bleurt": AnswerMetric("scores", is_learned=True),
}
"""Name in ``task.metric`` -> metric. ``task.metric`` also accepts a function of the user."""
OWN_METRIC = AnswerMetric("scores")
"""What holds of every function of the user: it gives an answer from 0 to 1, and 1 is best."""
LEARNED_METRICS = tuple(name for name, metric in ANSWER_METRICS.items() if metric.is_learned)
_USER_METRIC = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_own_metric(name: str) -> bool:
    """Whether ``name`` is ``module:function``."""
    return _USER_METRIC.fullmatch(name) is not None


def _check_metric(name: str) -> str:
    if name not in ANSWER_METRICS and not is_own_metric(name):
        raise UserError(f"no such metric; use {', '.join(ANSWER_METRICS)}, or a function of your own as module:function")
    return name


def _to_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _check_unique(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise UserError("a metric is named twice; name each once")
    return names


BleuTokens = Literal["auto", "13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "flores101", "flores200", "none"]
"""sacreBLEU's tokenizers. ``auto``: sacreBLEU's default for the script of most targets (``zh``, ``ja-mecab``, ``ko-mecab``, ``13a``), and
``char`` for other scripts without spaces, or if the package of the matching tokenizer is not installed."""


def check_bleu_tokens(metric: tuple[str, ...], tokens: BleuTokens) -> None:
    """Refuse ``bleu_tokens`` without the metric ``bleu``.

    Raises:
        UserError: ``tokens`` is set and ``metric`` does not include ``bleu``.
    """
    if tokens != "auto" and "bleu" not in metric:
        raise UserError(f"bleu_tokens: found {tokens!r}, but only metric bleu reads it; add it to task.metric or leave bleu_tokens out")


MetricName = Annotated[str, AfterValidator(_check_metric)]
Metrics = Annotated[
    tuple[MetricName, ...],
    BeforeValidator(_to_list, json_schema_input_type=str | tuple[str, ...]),
    Field(min_length=1),
    AfterValidator(_check_unique),
]
"""One metric or several: ``chrf`` or ``[chrf, bleu]``."""
