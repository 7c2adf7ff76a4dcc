"""Definitions of a task's metrics: item set, statistic, scale and better direction of each (docs/method.md, Metrics)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from delia_ray.evaluation.metrics.corpus_metrics import CORPUS_METRICS, score_corpora
from delia_ray.evaluation.metrics.format_metrics import INVALID
from delia_ray.evaluation.metrics.task_metrics import FORMAT
from delia_ray.evaluation.statistics.intervals import Columns
from delia_ray.evaluation.statistics.proportions import F1, BalancedAccuracy, Proportion, Rate, RateDifference
from delia_ray.evaluation.statistics.sums import NON_NEGATIVE, UNBOUNDED, SumScore
from delia_ray.tasks.answer_metrics import ANSWER_METRICS, OWN_METRIC, Better, MetricScale


@dataclass(frozen=True)
class MetricDefinition:
    """A metric: a statistic of the columns of one item set."""

    item_set: str
    """Name of the item set in ``ArmColumns.item_sets``."""
    statistic: Proportion | SumScore
    scale: MetricScale = "rates"
    better: Better = "higher"

    def choose_statistic(self, *arms: Columns) -> Proportion | SumScore:
        """Return the statistic for the columns of ``arms``: if all scores of all arms are 0 or 1, the mean is a rate."""
        if not isinstance(self.statistic, _ScoreColumn):
            return self.statistic
        name = self.statistic.name
        return Rate(lambda c: c[name] == 1) if all(np.isin(columns[name], (0.0, 1.0)).all() for columns in arms) else self.statistic


@dataclass(frozen=True)
class _ScoreColumn(SumScore):
    """The mean of a column of scores."""

    name: str


def _make_format_rate(column: str) -> Rate:
    return Rate(lambda c: c[column] != INVALID)


TOKEN_KL = MetricDefinition(
    "ordinary",
    # A ratio of sums weighs each answer by its tokens. Compared arms have the KL along the same answers, so the denominators are equal.
    SumScore(
        lambda c: np.stack([c["kl_sum"], c["tokens"]], axis=1), lambda sums: sums[:, 0] / sums[:, 1], is_linear=True, bounds=NON_NEGATIVE
    ),
    "nats",
    better="lower",
)
"""Mean KL over all tokens of all answers, from the columns ``kl_sum`` and ``tokens``."""
_RETENTION_METRICS: Mapping[str, MetricDefinition] = {
    "retention_kl": TOKEN_KL,
    "retention_match": MetricDefinition("ordinary", Rate(lambda c: c["unchanged"])),
}
FORMAT_METRICS: Mapping[str, MetricDefinition] = {
    "format_acc": MetricDefinition("test", _make_format_rate("predicted")),
    "label_acc": MetricDefinition("test", Rate(lambda c: c["predicted"] == c["gold"])),
    "bal_acc": MetricDefinition("test", BalancedAccuracy()),
    "f1_yes": MetricDefinition("test", F1()),
    "no_token": MetricDefinition("no_token", _make_format_rate("predicted"), better="lower"),
    "selectivity": MetricDefinition("both", RateDifference(_make_format_rate("with_token"), _make_format_rate("without_token"))),
    "spill": MetricDefinition("ordinary", _make_format_rate("predicted"), better="lower"),
    "false_trigger": MetricDefinition("false_trigger", _make_format_rate("predicted"), better="lower"),
    "plug_play": MetricDefinition("plug_play", _make_format_rate("predicted")),
    **_RETENTION_METRICS,
}
"""Metrics of the built-in task, in the order of its report; the Retention metrics are those of every task."""


def define_metrics(names: Sequence[str]) -> Mapping[str, MetricDefinition]:
    """Return name -> definition of all metrics of a task: first those of ``names`` (``task.metric``), then the Retention metrics."""
    if tuple(names) == (FORMAT,):
        return FORMAT_METRICS
    return {**{name: define_row_metric(name) for name in names}, **_RETENTION_METRICS}


def find_definition(name: str) -> MetricDefinition | None:
    """Return the definition of a built-in metric; None for any other name."""
    return define_row_metric(name) if name in ANSWER_METRICS else FORMAT_METRICS.get(name)


def define_row_metric(name: str, best: float | None = 1.0) -> MetricDefinition:
    """Define the metric of the test rows' column ``name``: a mean of scores, or the score of the corpus.

    Args:
        name: name of the metric and of its column.
        best: the scores are from 0 to this. None: they have no bounds.
    """
    metric = ANSWER_METRICS.get(name, OWN_METRIC)
    if name in CORPUS_METRICS:
        corpus = SumScore(
            lambda c: c[name],
            lambda sums: score_corpora(name, np.rint(sums[:, None]).astype(np.int64)),
            is_linear=False,
            bounds=(0.0, 100.0),
        )
        return MetricDefinition("test", corpus, metric.scale, metric.better)
    return MetricDefinition(
        "test",
        _ScoreColumn(
            lambda c: np.stack([c[name], np.ones(len(c[name]))], axis=1),
            lambda sums: sums[:, 0] / sums[:, 1],
            is_linear=True,
            bounds=UNBOUNDED if best is None or metric.is_learned else (0.0, best),
            name=name,
        ),
        metric.scale,
        metric.better,
    )
